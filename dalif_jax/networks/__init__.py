"""The networks: a file for each family and a line for each network in NETWORKS (table.py).

parts.py says what a network is given to build with, calls.py how one is run. A network of one's own
is a Flax module under a name of its own: networks.add("mine", Mine).
"""

from dalif_jax.networks.calls import stream, stream_state, tapped
from dalif_jax.networks.parts import (
    AveragePool,
    GlobalAverage,
    Join,
    MaxPool,
    Parts,
    Voting,
    layer_kind,
    show,
)
from dalif_jax.networks.table import (
    KERNELS,
    NETWORKS,
    add,
    answers,
    build,
    last_side,
    misfit,
    own_options,
)

__all__ = [
    "KERNELS", "NETWORKS", "AveragePool", "GlobalAverage", "Join", "MaxPool", "Parts", "Voting",
    "add", "answers", "build", "last_side", "layer_kind", "misfit", "own_options", "show",
    "stream", "stream_state", "tapped",
]  # fmt: skip

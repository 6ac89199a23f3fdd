"""ReLU, max(0, x[t]), for what becomes Diet-SNN (Rathi and Roy, TNNLS 2021): no spiking neuron.

A network of them is trained with T = 1; `convert.py --to=diet` takes its weights.

Certainty: code. The authors' public code trains the same network of such units first.

Differences: none known.
"""

import jax

from dalif_jax.neurons.piece import Neuron

NEURON = Neuron(
    lambda options, params, state, x: (state, jax.nn.relu(x)),
    state=lambda options, x: (),
    title="rectified linear unit, no spiking neuron",
    refuses={
        "nir": "it sends real numbers",
        "threshold": "it has none",
        "surrogate": "it has a gradient of its own",
        "surrogate_width": "it has a gradient of its own",
        "detach_reset": "it is never reset",
    },
    levels=0,
)

"""What a trained network does with one example: its answer, spikes and membranes over time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dalif_jax import data, models
from dalif_jax.config import neuron_options
from dalif_jax.neurons import membrane_threshold
from dalif_jax.training import prepare


class Inside(NamedTuple):
    """What a network did with one example, NumPy arrays, layers in order of depth."""

    logits: np.ndarray  # [T, K]
    spikes: dict  # {layer: bool [T, H, W, C]}
    membranes: dict  # {layer: [T, H, W, C]}, h before the reset
    thresholds: dict  # {layer: [] or [C]}, what h must reach


def look_inside(state, image, config, layers):
    """What the network does with one example.

    Args:
      image: uint8 [H, W, C], or counts of events [T, H, W, 2].
      layers: names of the neuron layers, in the order to return.
    Returns:
      Inside.
    """
    spec = data.spec(config.dataset, config.frame_size)
    # On the host first: one of several processes asks this alone, of one of its devices.
    params = jax.device_get(state.params if state.ema is None else state.ema)
    stats = jax.device_get(state.batch_stats)
    options = neuron_options(config)
    # A forward pass of its own, for training's may run as kernels over all devices.
    model = models.build(config.model, spec.classes, options, jnp.dtype(config.dtype))

    @jax.jit
    def forward(params, stats, image):
        logits, taps = model.apply(
            {"params": params, "batch_stats": stats},
            prepare(image[None], spec, config.dtype),
            train=False,
            taps=("spikes", "membrane"),
            timesteps=config.timesteps,
        )
        inside = {
            key: {name: tap[key][0] for name, tap in taps.items()} for key in ("spikes", "membrane")
        }
        return logits[0], inside

    logits, inside = jax.device_get(forward(params, stats, image))
    return Inside(
        logits,
        {name: inside["spikes"][name] != 0 for name in layers},
        {name: inside["membrane"][name] for name in layers},
        {
            name: np.asarray(
                membrane_threshold(options, layer_of(params, name), layer_of(stats, name))
            )
            for name in layers
        },
    )


def layer_of(tree, name):
    """A layer's part of nested dicts, {} where it has none."""
    for key in name.split("/"):
        tree = tree.get(key, {})
    return tree

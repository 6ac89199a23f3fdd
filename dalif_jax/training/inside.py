"""What a trained network does with one example: its answer, spikes and membranes over time."""

from typing import NamedTuple

import jax
import numpy as np

from dalif_jax import networks, neurons
from dalif_jax.data import sets
from dalif_jax.training import build_model, prepare


class Inside(NamedTuple):
    """What a network did with one example, NumPy arrays, layers in order of depth."""

    logits: np.ndarray  # [T, K]
    spikes: dict  # {layer: bool [T, H, W, C]}
    membranes: dict  # {layer: [T, H, W, C]}, h before the reset; {} where a neuron shows none
    thresholds: dict  # {layer: [T, H, W, C]}, what h was to reach
    hard_reset: bool  # whether a membrane that fired starts again from 0


def look_inside(state, image, config, layers):
    """What the network does with one example.

    Args:
      image: uint8 [H, W, C], or counts of events [T, H, W, 2].
      layers: names of the neuron layers, in the order to return.
    Returns:
      Inside.
    """
    spec = sets.spec(config.dataset, config.frame_size, config.found)
    # On the host first: one of several processes asks this alone, of one of its devices.
    params = jax.device_get(state.params if state.ema is None else state.ema)
    stats = jax.device_get(state.batch_stats)
    # A forward pass of its own, for training's may run as kernels over all devices.
    model = build_model(config)
    kind = neurons.NEURONS[config.neuron]
    asked = ("spikes", "membrane", "threshold") if kind.membrane else ("spikes",)

    if spec.events:
        image = image[: config.timesteps]  # of a set of whole recordings, the first slice

    @jax.jit
    def forward(params, stats, image):
        logits, taps, _ = networks.tapped(
            model,
            {"params": params, "batch_stats": stats},
            prepare(image[None], spec, config.dtype),
            asked,
            train=False,
            timesteps=config.timesteps,
        )
        return logits[0], {key: {name: tap[key][0] for name, tap in taps.items()} for key in asked}

    logits, inside = jax.device_get(forward(params, stats, image))
    return Inside(
        logits,
        {name: inside["spikes"][name] != 0 for name in layers},
        {name: inside["membrane"][name] for name in layers if kind.membrane},
        {name: inside["threshold"][name] for name in layers if kind.membrane},
        kind.decays is not None,
    )


def layer_of(tree, name):
    """A layer's part of nested dicts, {} where it has none."""
    for key in name.split("/"):
        tree = tree.get(key, {})
    return tree

"""Calling a network: with what its layers are asked for, and one timestep at a time."""

import jax.numpy as jnp

from dalif_jax.neurons import TAPS

# Of neuron layers, then of the network's dropout and of attention between places.
KNOWN_TAPS = (*TAPS, "second", "products")


def tapped(model, variables, x, taps, mutable=(), **keys):
    """Call a network and take from each neuron layer what is asked for; nothing else is computed.

    Args:
      taps: of neurons.TAPS: "current", "spikes", "membrane" and "threshold" [B, T, ..., C] each,
        the last two as they were compared; "firing_rate"; "statistic", see SpikingNeuron. And
        "second", of the network itself, its layer "": other logits, from another dropout mask.
      mutable: other collections, as "batch_stats" while training.
      keys: of the call, `train`, `timesteps` and `share`.
    Raises:
      ValueError: unknown name of an intermediate.
    Returns:
      (logits, {layer: {tap: value}} in the order the layers run, {collection: new variables}).
    """
    for name in taps:
        if name not in KNOWN_TAPS:
            raise ValueError(f"unknown intermediate {name!r}; known: {', '.join(KNOWN_TAPS)}")
    collections = [f"tap_{name}" for name in taps]
    logits, new = model.apply(variables, x, mutable=[*mutable, *collections], **keys)
    found = {}
    for tap in taps:
        for layer, value in _leaves(new.pop(f"tap_{tap}", {})):
            found.setdefault(layer, {})[tap] = value
    return logits, found, new


def _leaves(tree, path=()):
    for key, value in tree.items():
        if key == "value":
            yield "/".join(path), value
        else:
            yield from _leaves(value, (*path, key))


def stream_state(model, variables, x):
    """The state of a network before its first timestep, for `stream`.

    `stream` also starts from {}; inside `jax.lax.scan`, where the state must not change its
    structure, it starts from this:

        state = dj.stream_state(model, variables, frames[0])
        step = lambda state, x: dj.stream(model, variables, state, x)
        state, logits = jax.lax.scan(step, state, frames)  # frames [T, B, H, W, C]

    Args:
      x: [B, H, W, C], the input of one timestep; only its shape and dtype count.
    Raises:
      ValueError: as `stream`.
    """
    collections = ["stream", "stream_start"]
    _, new = model.apply(variables, jnp.zeros_like(x)[:, None], train=False, mutable=collections)
    return new["stream"]


def stream(model, variables, state, x):
    """One timestep of a trained network on streaming input.

    Args:
      model, variables: the network and its parameters and running statistics.
      state: {} or `stream_state` before the first step, then what the previous call returned.
      x: [B, H, W, C], the input of this timestep.
    Returns:
      (state, logits [B, classes] of this timestep). The network's answer after T steps is the mean
      of their logits.
    Raises:
      ValueError: the neuron, or the attention, does not stream; says why.
    """
    logits, new = model.apply(
        {**variables, "stream": state}, x[:, None], train=False, mutable=["stream"]
    )
    return new["stream"], logits[:, 0]

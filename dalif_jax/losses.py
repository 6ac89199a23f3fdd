"""Losses: what a network's logits over time, and what its layers were asked for, cost an example.

A loss is a function and a line of LOSSES; it knows no network and no neuron.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


def time_averaged_cross_entropy(logits, labels, smoothing=0.0):
    """Cross-entropy of the time-averaged logits, the readout of the paper's lineage.

    Args:
      logits: [B, T, K], any float dtype; the mean and the softmax are at least float32.
      labels: int [B].
      smoothing: share of the target spread evenly over all K classes, 0 <= smoothing < 1.
    Returns:
      [B] nats, per example.
    """
    return _cross_entropy(time_average(logits), labels, smoothing)


def tet(logits, labels, smoothing=0.0, weight=0.05, target=1.0):
    """Temporal efficient training (Deng et al., ICLR 2022): every timestep answers for itself.

        (1 - weight) mean_t CE(o[t], y) + weight mean_t,k (o[t, k] - target)^2

    Certain: as in the authors' public code. `target` is the neurons' threshold there, 1; `weight`
    0.05 on CIFAR, 0.001 on ImageNet and event cameras. Answers are by the mean over time, as ever.

    Args and returns: as time_averaged_cross_entropy.
    """
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    each = _cross_entropy(wide, labels[:, None], smoothing).mean(1)
    spread = ((wide - target) ** 2).mean((1, 2))
    return (1.0 - weight) * each + weight * spread


def _cross_entropy(logits, labels, smoothing):
    """[..., K] and [...] -> [...] nats."""
    log_probabilities = jax.nn.log_softmax(logits)
    labels = jnp.broadcast_to(labels, logits.shape[:-1])
    correct = jnp.take_along_axis(log_probabilities, labels[..., None], axis=-1)[..., 0]
    return -((1.0 - smoothing) * correct + smoothing * log_probabilities.mean(-1))


def correct(logits, labels):
    """bool [B]: whether the largest time-averaged logit of [B, T, K] is the label's."""
    return time_average(logits).argmax(-1) == labels


def time_average(logits):
    """[B, T, K] -> [B, K], in at least float32."""
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32)).mean(axis=1)


# ---- The table.


@dataclass(frozen=True)
class Options:
    """What every loss is told; its own options are the fields it adds."""

    label_smoothing: float = 0.0


@dataclass(frozen=True)
class TETOptions(Options):
    weight: float = 0.05  # of how far outputs are from the target
    target: float = 1.0  # of every output, units of the threshold

    def __post_init__(self):
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight={self.weight} must be at least 0 and at most 1")


class Loss(NamedTuple):
    """A line of LOSSES.

    function: (options, logits [B, T, K], labels int [B], taps, share) -> [B]. `taps` is {layer:
      what its statistic gave}, empty without one; `share` of the training is over, 0 to 1.
    options: its dataclass of Options.
    statistic: (membrane, threshold) of a layer and timestep, [B, ..., C] each -> a pytree, which
      the layer averages over time; None: nothing is asked of the layers.
    """

    function: Callable
    options: type = Options
    statistic: Callable | None = None


def _cross_entropy_loss(options, logits, labels, taps, share):
    return time_averaged_cross_entropy(logits, labels, options.label_smoothing)


def _tet_loss(options, logits, labels, taps, share):
    return tet(logits, labels, options.label_smoothing, options.weight, options.target)


LOSSES = {
    "cross_entropy": Loss(_cross_entropy_loss),
    "tet": Loss(_tet_loss, TETOptions),
}


def add(name, loss):
    """Make a Loss known by a name. Raises ValueError where the name is taken."""
    if LOSSES.get(name, loss) is not loss:
        raise ValueError(f"loss={name!r} is taken; choose another name")
    LOSSES[name] = loss


def own_options(name):
    """{option: its default} of what a loss adds to the options of all."""
    common = {field.name for field in fields(Options)}
    return {f.name: f.default for f in fields(LOSSES[name].options) if f.name not in common}


def options(name, **given) -> Any:
    """The Options of a loss. Raises ValueError: unknown name or option."""
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}; known: {', '.join(LOSSES)}")
    known = own_options(name)
    for key in given:
        if key not in known and key not in {field.name for field in fields(Options)}:
            raise ValueError(
                f"loss={name} has no option {key!r}; its own are: {', '.join(known) or 'none'}"
            )
    return LOSSES[name].options(**given)

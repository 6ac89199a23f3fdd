"""Losses: what a network's logits over time, and what its layers were asked for, cost an example.

A loss is a function and a line of LOSSES; it knows no network and no neuron.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dalif_jax.suggest import did_you_mean

HALF_WIDTH = 0.5  # of the surrogate's window, for recdis


def time_averaged_cross_entropy(logits, labels, smoothing=0.0):
    """Cross-entropy of time-averaged logits, [B] nats: the readout of MPBN's lineage (ICCV 2023).

    Args:
      logits, labels: [B, T, K] of any float dtype, int [B]; mean and softmax are at least float32.
      smoothing: share of the target spread evenly over all K classes, 0 <= smoothing < 1.

    Certainty: code. It is the loss of MPBN's public code, which has no smoothing.

    Differences: none known.
    """
    return _cross_entropy(time_average(logits), labels, smoothing)


def tet(logits, labels, smoothing=0.0, weight=0.05, target=1.0):
    """TET, temporal efficient training (Deng et al., ICLR 2022): every timestep answers for itself.

        (1 - weight) mean_t CE(o[t], y) + weight mean_t,k (o[t, k] - target)^2

    `target` is the neurons' threshold there, 1; `weight` 0.05 on CIFAR, 0.001 on ImageNet and event
    cameras. Answers are by the mean over time. Args and returns: as time_averaged_cross_entropy.

    Paper: https://arxiv.org/abs/2202.11946

    Certainty: code. The formula is that of the authors' public code and of the paper.

    Differences: none known.
    """
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    each = _cross_entropy(wide, labels[:, None], smoothing).mean(1)
    spread = ((wide - target) ** 2).mean((1, 2))
    return (1.0 - weight) * each + weight * spread


def rate_error(logits, labels, smoothing=0.0):
    """MSE of rates (PLIF, Fang et al., ICCV 2021): mean_k (mean_t o[t, k] - target[k])^2, 1 for the
    right class. For outputs that fire. Otherwise as time_averaged_cross_entropy, without nats.

    Certainty: code. It is the loss of PLIF's public code, whose targets are not smoothed.

    Differences: none known.
    """
    rates = time_average(logits)
    classes = rates.shape[-1]
    target = (1.0 - smoothing) * jax.nn.one_hot(labels, classes) + smoothing / classes
    return ((rates - target) ** 2).mean(-1)


def im_membrane(statistics, form, timesteps):
    """The term of IM-Loss (Guo et al., NeurIPS 2022): membranes on average at the threshold.

        paper  sum over layers of (mean h - V)^2, h the membranes before firing, V their threshold
        code   mean over layers but the first and last of (mean - 0.5 / T)^2, of the current of
               each block's last neuron and of the spikes of the others

    `statistics`: {layer: means over batch and time, "current", "membrane", "threshold", "spikes"},
    as layers run; below one name, as of "stage0_block0/neuron1", the last counts. Returns a scalar.

    Certainty: secondary. The form `paper` is by reports of it that leave out neurons inside blocks.

    Differences:
      1. From the paper: it was not read; its weight of 2 is by reports as well.
      2. From the authors' code: `form=code` is the released demo's, with a weight of 0.005, not 2.
    """
    blocks = {}
    for layer, means in statistics.items():
        block, _, _ = layer.rpartition("/")
        blocks[block or layer] = bool(block), means  # a later layer takes its place
    if form == "paper":
        return sum((m["membrane"] - m["threshold"]) ** 2 for _, m in blocks.values())
    each = [m["current"] if block else m["spikes"] for block, m in blocks.values()]
    each = each[1:-1] or each
    return sum((value - 0.5 / timesteps) ** 2 for value in each) / len(each)


def im_statistic(seen):
    return {key: getattr(seen, key).mean() for key in seen._fields}


def symmetric_divergence(logits, other):
    """LTMD (Wang et al., NeurIPS 2022): (KL(q, r) + KL(r, q)) / 2 of two answers [B, T, K] averaged
    over time, a mean over the classes: [B].

    Certainty: code. The authors' public code was run and compared.

    Differences:
      1. From the authors' code: the chance to stay of its dropout is a constant for the gradient.
    """
    q, r = (jax.nn.log_softmax(time_average(values)) for values in (logits, other))
    return 0.5 * ((jnp.exp(q) - jnp.exp(r)) * (q - r)).mean(-1)


def recdis_membrane(statistics):
    """A stand-in for the term of RecDis-SNN (Guo et al., CVPR 2022), whose formula is not public.

    Of membranes as distances from the threshold in half widths of the surrogate's window, a channel
    with mean m and deviation d costs

        max(0, m^2 - d^2) + max(0, 2 - |m| - d)^2 + max(0, d - 4)^2

    against degeneration (all on one side), mismatch (all near the threshold, where the surrogate
    is far from the step) and saturation; mean over channels and layers. `statistics` is {layer:
    (mean, mean square) [C] each} over a batch and time.

    Certainty: stand-in. Modelled on the released loss of "Regularizing activation distribution for
    BNNs", which the authors built on before.

    Differences:
      1. From the paper: its abstract names these three; formula and weight are ours.
    """

    def cost(mean, square):
        deviation = jnp.sqrt(jax.nn.relu(square - mean**2) + 1e-10)
        degeneration = jax.nn.relu(mean**2 - deviation**2)
        mismatch = jax.nn.relu(2.0 - jnp.abs(mean) - deviation) ** 2
        saturation = jax.nn.relu(deviation - 4.0) ** 2
        return (degeneration + mismatch + saturation).mean()

    return sum(cost(*layer) for layer in statistics.values()) / len(statistics)


def recdis_statistic(seen):
    distance = (seen.membrane - seen.threshold) / HALF_WIDTH
    axes = tuple(range(distance.ndim - 1))
    return distance.mean(axes), (distance**2).mean(axes)


def halves_by_cosine(weight, share):
    """weight (1 + cos(pi share)): twice the weight at first, nothing at the end."""
    return weight * (1.0 + jnp.cos(jnp.pi * share))


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


@dataclass(frozen=True)
class IMOptions(Options):
    form: str = "paper"  # paper, code: what is held where, see im_membrane
    weight: float | None = None  # of the term; None: 2 in the paper's form, 0.005 in the code's

    def __post_init__(self):
        if self.form not in ("paper", "code"):
            raise ValueError(f"unknown form {self.form!r}; known: paper, code")
        if self.weight is None:
            object.__setattr__(self, "weight", {"paper": 2.0, "code": 0.005}[self.form])
        if not isinstance(self.weight, int | float) or self.weight < 0:
            raise ValueError(f"weight={self.weight!r} must be a number of at least 0")


@dataclass(frozen=True)
class TermOptions(Options):
    """Of a loss that adds a term to the cross-entropy."""

    weight: float = 1.0

    def __post_init__(self):
        if self.weight < 0:
            raise ValueError(f"weight={self.weight} must not be negative")


@dataclass(frozen=True)
class RecDisOptions(TermOptions):
    weight: float = 0.05  # of the term; falls from twice this to 0 by a cosine, a choice of ours


@dataclass(frozen=True)
class LTMDOptions(TermOptions):
    weight: float = 0.5  # of how far an example's two answers are from one another


class Loss(NamedTuple):
    """A line of LOSSES.

    function: (options, logits [B, T, K], labels int [B], taps, share) -> [B]. `share` of training
      is over, 0 to 1; `taps` is {layer: its statistic}, with `second` other logits by that name.
    options: its dataclass of Options.
    statistic: a layer's timestep (neurons.Seen) -> a pytree, averaged over time; None: not asked.
    second: whether it takes two answers, each from a dropout mask of its own.
    about: the function of arrays whose docstring tells of it, for its page.
    """

    function: Callable
    options: type = Options
    statistic: Callable | None = None
    second: bool = False
    about: Callable | None = None


def _cross_entropy_loss(options, logits, labels, taps, share):
    return time_averaged_cross_entropy(logits, labels, options.label_smoothing)


def _tet_loss(options, logits, labels, taps, share):
    return tet(logits, labels, options.label_smoothing, options.weight, options.target)


def _mse_loss(options, logits, labels, taps, share):
    return rate_error(logits, labels, options.label_smoothing)


def _im_loss(options, logits, labels, taps, share):
    each = time_averaged_cross_entropy(logits, labels, options.label_smoothing)
    return each + options.weight * im_membrane(taps, options.form, logits.shape[1])


def _recdis_loss(options, logits, labels, taps, share):
    each = time_averaged_cross_entropy(logits, labels, options.label_smoothing)
    return each + halves_by_cosine(options.weight, share) * recdis_membrane(taps)


def _ltmd_loss(options, logits, labels, taps, share):
    both = logits, taps["second"]
    each = [time_averaged_cross_entropy(x, labels, options.label_smoothing) for x in both]
    return 0.5 * (each[0] + each[1]) + options.weight * symmetric_divergence(*both)


LOSSES = {
    "cross_entropy": Loss(_cross_entropy_loss, about=time_averaged_cross_entropy),
    "tet": Loss(_tet_loss, TETOptions, about=tet),
    "mse": Loss(_mse_loss, about=rate_error),
    "im": Loss(_im_loss, IMOptions, im_statistic, about=im_membrane),
    "ltmd": Loss(_ltmd_loss, LTMDOptions, second=True, about=symmetric_divergence),
    "recdis": Loss(_recdis_loss, RecDisOptions, recdis_statistic, about=recdis_membrane),
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
        raise ValueError(
            f"unknown loss {name!r}; known: {', '.join(LOSSES)}" + did_you_mean(name, LOSSES)
        )
    known = own_options(name)
    for key in given:
        if key not in known and key not in {field.name for field in fields(Options)}:
            raise ValueError(
                f"loss={name} has no option {key!r}; its own are: {', '.join(known) or 'none'}"
            )
    return LOSSES[name].options(**given)

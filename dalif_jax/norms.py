"""Batch norm over batch, time and space.

Own code because Flax's keeps the biased variance in its running average where the papers' PyTorch
keeps the unbiased one. Statistics and arithmetic are at least float32 whatever the compute dtype.
Under jit with a batch-sharded input the means below are over the global batch.
"""

from collections.abc import Callable
from dataclasses import fields
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from dalif_jax.ops.recompute import axes_of
from dalif_jax.ops.scaled import Scaled, with_rank

MOMENTUM = 0.9  # weight of the old running value: PyTorch's momentum 0.1
EPSILON = 1e-5
# The name under which rematerialisation finds them: small, and a whole reduction to compute again.
STATISTICS = "statistics"


def batch_statistics(x, kept=1):
    """Mean and biased variance of [..., C] over all axes but the last `kept`, each [C]."""
    axes = tuple(range(x.ndim - kept))
    mean = x.mean(axes)
    # One pass over x: both moments come out of the same read.
    variance = (x * x).mean(axes) - mean * mean
    # Not jnp.maximum: its derivative compares values that XLA may compute twice.
    variance = jnp.where(variance < 0.0, 0.0, variance)
    return checkpoint_name((mean, variance), STATISTICS)


def normalise(x, mean, variance, scale, bias):
    """scale * (x - mean) / sqrt(variance + 1e-5) + bias for [..., C] and parameters [C]."""
    factor = scale * jax.lax.rsqrt(variance + EPSILON)
    mean, factor, bias = (with_rank(each, x.ndim) for each in (mean, factor, bias))
    return (x - mean) * factor + bias


def normalise_outside(x, mean, variance, scale, bias):
    """The same with scale * (x - mean) / (sqrt(variance) + 1e-5) + bias."""
    # No gradient of sqrt at 0: a channel of one value stays.
    deviation = jnp.sqrt(jnp.where(variance < EPSILON**2, EPSILON**2, variance))
    factor = scale / (deviation + EPSILON)
    mean, factor, bias = (with_rank(each, x.ndim) for each in (mean, factor, bias))
    return (x - mean) * factor + bias


def unwritten(x, mean, variance, scale, bias):
    """What `normalise` gives as a Scaled: for a neuron that norms what it reads."""
    factor = scale * jax.lax.rsqrt(variance + EPSILON)
    return Scaled(x, factor, bias - mean * factor)


def update_running(running, mean, variance, count):
    """Running (mean, unbiased variance) after one more batch of `count` values a channel."""
    unbiased = variance * (count / max(count - 1, 1))
    old_mean, old_variance = running
    return (
        MOMENTUM * old_mean + (1.0 - MOMENTUM) * mean,
        MOMENTUM * old_variance + (1.0 - MOMENTUM) * unbiased,
    )


def batch_norm_per_step(x, scale, bias, running, normalise=normalise):
    """Normalise each timestep of x [B, T, ..., C] with its statistics, in training.

    Running statistics are updated T times, in the order of the timesteps.

    Returns:
      (normalised x, running statistics after the call).
    """
    mean, variance = jax.vmap(batch_statistics, 1)(x)
    y = jax.vmap(normalise, (1, 0, 0, None, None), 1)(x, mean, variance, scale, bias)
    count = x.size // (x.shape[1] * scale.size)

    def update(running, step):
        return update_running(running, *step, count), None

    running, _ = jax.lax.scan(update, axes_of(mean, running), (mean, variance))
    return y, running


def batch_norm(x, scale, bias, running, train, repeats=1, normalise=normalise):
    """Normalise x [..., C] with its own statistics (train) or the running ones.

    Scale, bias and running statistics are [C]; of more axes, [H, W, C], they are of each of those.

    `repeats` is how many times each value stands for itself: it counts in the unbiased variance.
    `normalise` is the formula.

    Returns:
      (normalised x, running statistics after the call). In evaluation `running` is unchanged.
    """
    if not train:
        return normalise(x, *running, scale, bias), running
    mean, variance = batch_statistics(x, scale.ndim)
    count = repeats * x.size // scale.size
    return normalise(x, mean, variance, scale, bias), update_running(running, mean, variance, count)


class BatchNorm(nn.Module):
    """Batch norm joint over batch, time and space, as in MPBN (ICCV 2023) and its lineage.

    Names `scale`, `bias` [C] and the running `mean`, `var` [C] for `batch_norm`.

    `first_scale` and `first_bias` are where those start: a scale of 0 makes a residual block start
    as its shortcut. `summed` says that another branch is added to what comes out; without `affine`
    it has neither scale nor bias. With `per_step`, x is [B, T, ..., C]: training normalises each
    timestep separately and updates the running statistics T times. Evaluation is the same.

    Certainty: code. The norms behind convolutions are those of MPBN's public code.

    Differences: none known.
    """

    dtype: jnp.dtype = jnp.float32
    first_scale: float = 1.0
    first_bias: float = 0.0
    summed: bool = False
    affine: bool = True
    deferred: bool = False  # whether the neuron behind it norms what it reads, in training
    per_step: bool = False  # statistics of each timestep, not of all together
    layer: ClassVar[str] = "norm"

    @nn.compact
    def __call__(self, x, train: bool, repeats: int = 1):
        """x: [..., C] -> same shape in `dtype`; `repeats` as in batch_norm."""
        parameters, running = norm_variables(
            self, x.shape[-1], self.first_scale, self.first_bias, self.affine
        )
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        parameters = self.scaled(*parameters)
        old = tuple(r.value for r in running)
        formula = self.formula()
        if train and self.deferred and formula is normalise:
            formula = unwritten
        if train and self.separates_steps():
            y, new = batch_norm_per_step(wide, *parameters, old, self.formula())
        else:
            y, new = batch_norm(wide, *parameters, old, train, repeats, formula)
        store_running(self, running, new)
        return y.astype(self.dtype)

    @nn.nowrap
    def scaled(self, scale, bias):
        """What the normalised x is multiplied with and what is added."""
        return scale, bias

    @nn.nowrap
    def separates_steps(self):
        """Whether training normalises each timestep separately."""
        return self.per_step

    @nn.nowrap
    def formula(self):
        """(x, mean, variance, scale, bias) -> normalised x."""
        return normalise


class ThresholdNorm(BatchNorm):
    """tdBN (STBP-tdBN, Zheng et al., AAAI 2021): batch norm to the threshold's scale.

        y = scale a threshold (x - mean) / sqrt(var + eps) + bias

    a = 1 in series and 1/sqrt(2) where two branches are summed, so that their sum spreads as far
    as the threshold again. The threshold is a constant here, also where the neuron learns its own.

    Paper: https://arxiv.org/abs/2011.05280

    Certainty: secondary. The formula is that of public code of three later papers.

    Differences:
      1. From the paper: whether an identity shortcut stays spikes or is normed is open; here it
         stays spikes, `identity=True` norms it, as GLIF's code does.
      2. From MLF's code: that has a = 1 everywhere and eps outside the root; here
         `summed_scale=1.0`, `epsilon_outside=True`.
      3. From MPBN's code: a line of it, commented out, has a = 1 in blocks without a projection;
         here 1/sqrt(2) in every block.
      4. From SpikingJelly's edition: there scale starts at a threshold and nothing multiplies it,
         the same at the start and another training.
    """

    threshold: float = 0.5  # units of the membrane
    identity: bool = False  # whether shortcuts without weights are normed too
    summed_scale: float = 2**-0.5  # a of summed branches; 1 where neurons fire before the sum
    epsilon_outside: bool = False  # eps outside the root, as MLF's code has it

    @nn.nowrap
    def scaled(self, scale, bias):
        return self.threshold * (self.summed_scale if self.summed else 1.0) * scale, bias

    @nn.nowrap
    def separates_steps(self):
        return False  # by definition, tdBN's statistics are joint over time

    @nn.nowrap
    def formula(self):
        return normalise_outside if self.epsilon_outside else normalise


class NoNorm(nn.Module):
    """None, as in Diet-SNN (Rathi and Roy, TNNLS 2021): what comes in goes out. Names nothing.

    Certainty: code. The networks of Diet-SNN's public code have no norms.

    Differences: none known.
    """

    dtype: jnp.dtype = jnp.float32
    layer: ClassVar[None] = None  # nothing that whoever walks a network would meet

    @nn.compact
    def __call__(self, x, train: bool, repeats: int = 1):
        return x


def batch_fold(module, params, stats):
    """(factor, shift), [C] each, that a trained batch norm comes down to: factor * x + shift."""
    scale, bias = module.scaled(params.get("scale", 1.0), params.get("bias", 0.0))
    outside = module.formula() is normalise_outside
    root = stats["var"] ** 0.5 + EPSILON if outside else (stats["var"] + EPSILON) ** 0.5
    factor = scale / root
    return factor, bias - stats["mean"] * factor


# What a network tells the norm of a place.
TOLD = ("first_scale", "first_bias", "summed", "affine", "deferred", "per_step")


class Norm(NamedTuple):
    """A line of NORMS.

    module: (dtype, name) -> Flax module of (x [..., C], train, repeats=1) -> x. It is told those of
      `first_scale`, `first_bias`, `summed`, `affine` and `per_step` (see BatchNorm) that are fields
      of it; a field `identity` says whether shortcuts without weights are normed too. Others are
      its own options, or config keys.
    fold: (module, params, stats) of a layer -> (factor, shift) of x at inference; None where it is
      no such.
    """

    module: Callable
    fold: Callable | None = None


NORMS = {
    "batch": Norm(BatchNorm, batch_fold),
    "tdbn": Norm(ThresholdNorm, batch_fold),
    "none": Norm(NoNorm, lambda module, params, stats: (1.0, 0.0)),
}


def add(name, norm):
    """Make a Norm known by a name. Raises ValueError where the name is taken."""
    if NORMS.get(name, norm) is not norm:
        raise ValueError(f"norm={name!r} is taken; choose another name")
    NORMS[name] = norm


def own_options(name):
    """{field: its default} of a norm's module but for those that every one is given."""
    every = ("dtype", *TOLD, "parent", "name")
    return {f.name: f.default for f in fields(NORMS[name].module) if f.name not in every}


def norm_variables(module, channels, scale=1.0, bias=0.0, affine=True, prefix=""):
    """Declare a batch norm's (scale, bias) parameters and running (mean, var) on a module.

    `channels` is their number, or a shape (H, W, C). Not `affine`: 1 and 0, no parameters."""
    shape = channels if isinstance(channels, tuple) else (channels,)
    # The default float dtype: float32, or float64 where x64 is switched on.
    dtype = jnp.result_type(float)
    if affine:
        scale, bias = (
            module.param(prefix + name, nn.initializers.constant(start), shape, dtype)
            for name, start in (("scale", scale), ("bias", bias))
        )
    else:
        scale, bias = jnp.ones(shape, dtype), jnp.zeros(shape, dtype)
    mean = module.variable("batch_stats", prefix + "mean", jnp.zeros, shape, dtype)
    variance = module.variable("batch_stats", prefix + "var", jnp.ones, shape, dtype)
    return (scale, bias), (mean, variance)


def store_running(module, running, new):
    """Write new running statistics, in a training call only and never while initialising."""
    if module.is_mutable_collection("batch_stats") and not module.is_initializing():
        for variable, value in zip(running, new, strict=True):
            variable.value = value

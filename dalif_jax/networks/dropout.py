"""Dropout of spiking networks: one mask for all timesteps of an example, unless said otherwise.

Dropout drops every value with the same chance. ModerateDropout (LTMD, Wang et al., NeurIPS
2022) keeps busy neurons and drops quiet ones:

    p = (d - min d) / (max d - min d)                      d: mean over time, of a batch's neurons
    keep = clip(1 - (1 - p) rate / (1 - mean p), 0, 1)     the chance that a neuron stays
    y = x mask / keep                                      one mask for all timesteps

As in the authors' public code, run and compared, which lets a gradient through 1 / keep;
here it is a constant.
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp


def keep_chance(d, rate):
    """The chance that each neuron stays, from its mean over time d [B, N] (same shape)."""
    spread = jnp.maximum(d.max() - d.min(), 1e-12)
    p = (d - d.min()) / spread
    return jnp.clip(1.0 - (1.0 - p) * rate / jnp.maximum(1.0 - p.mean(), 1e-12), 0.0, 1.0)


def misfit(**rates):
    """Why one of these rates, or pairs of them, cannot be, else ""."""
    for key, rate in rates.items():
        for each in rate if isinstance(rate, tuple) else (rate,):
            if not 0 <= each < 1:
                return f"model_options.{key}={rate} must be at least 0 and below 1"
    return ""


class Dropout(nn.Module):
    """[B, T, ..., C] -> the same, each place zero at all timesteps with a chance of `rate`, the
    others divided by 1 - rate; as it is where it is not training. Not `held`: every timestep draws
    for itself."""

    rate: float
    held: bool = True
    layer: ClassVar[None] = None

    @nn.compact
    def __call__(self, x, train: bool):
        if not train or not self.rate or self.is_initializing():
            return x
        shape = (x.shape[0], 1 if self.held else x.shape[1], *x.shape[2:])
        stays = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - self.rate, shape)
        return jnp.where(stays, x / (1.0 - self.rate), 0.0).astype(x.dtype)


class ModerateDropout(nn.Module):
    """[B, T, N] -> (x dropped, x dropped again), the second where `again`, else None; as it is
    where it is not training."""

    rate: float
    layer: ClassVar[None] = None

    @nn.compact
    def __call__(self, x, train: bool, again: bool = False):
        if not train or self.is_initializing():
            return x, None
        keep = jax.lax.stop_gradient(keep_chance(x.mean(1).astype(jnp.float32), self.rate))

        def dropped(key):
            stays = jax.random.uniform(key, keep.shape, keep.dtype) < keep
            factor = jnp.where(stays, 1.0 / jnp.maximum(keep, 1e-12), 0.0)
            return x * factor[:, None].astype(x.dtype)

        first, second = jax.random.split(self.make_rng("dropout"))
        return dropped(first), dropped(second) if again else None

"""ASA (ASA-SNN, Yao et al., ICCV 2023): two maps in space, of the busy cells (t, c) and the rest.

    M     = (a + m) / 2 + alpha a + beta m       a, m [T, C]: mean and maximum of x over space
    score = F M                                  F a map over time, [T, T] or T -> T / r -> T
    busy    cells (t, c) in exactly one of: the share of channels with the highest score at t, the
            share of timesteps with the highest score of c
    map   = sigmoid(conv [mean, max])            over T and C, of the busy cells alone, the mean
                                                 divided by their share; likewise of the others
    y     = map_busy x on busy cells, map_rest x on the others

alpha, beta and F choose and get no gradient, as in the authors' code: they stay as drawn. Linear
layers pass unchanged.

Paper: https://openaccess.thecvf.com/content/ICCV2023/html/Yao_Inherent_Redundancy_in_Spiking_Neural_Networks_ICCV_2023_paper.html

Certainty: code. The equations are those of the authors' public code.

Differences:
  1. From the authors' code: there the busy cells of a batch are the union of its examples', so that
     an answer depends on its neighbours; here each example has its own.
  2. From the authors' code: one example alone fails there; here it is answered.
  3. From the authors' code: `both_sets=True`, cells in either set, is ours.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from dalif_jax.attention.piece import Attention, kernel_init, maximum, smooth, wide


class ASA(Attention):
    """x [B, T, H, W, C] -> the same shape, every value with its sign."""

    share: float = 0.5  # of channels, and of timesteps, that count as busy
    reduction: int = 1  # T over the width of F's hidden layer; 1: F is one matrix
    both_sets: bool = False

    refuses_stream = "it compares all timesteps"

    @nn.compact
    def __call__(self, x, train: bool):
        if x.ndim == 3:
            return x
        wide_x = wide(x)
        busy = self._busy(wide_x)[:, :, None, None]
        parts = (("busy", busy, self.share), ("rest", ~busy, 1 - self.share))
        maps = [
            self._map(name, jnp.where(cells, wide_x, 0.0), share) for name, cells, share in parts
        ]
        return (wide_x * jnp.where(busy, *maps)).astype(x.dtype)

    def _busy(self, x):
        """bool [B, T, C]."""
        T, C = x.shape[1], x.shape[4]
        constant = nn.initializers.constant(0.5)
        wide_type = jnp.result_type(float)
        alpha, beta = (self.param(key, constant, (), wide_type) for key in ("alpha", "beta"))
        mean, largest = x.mean((2, 3)), x.max((2, 3))
        score = 0.5 * (mean + largest) + alpha * mean + beta * largest
        hidden = T // self.reduction
        layers = [(T, T)] if self.reduction == 1 else [(T, hidden), (hidden, T)]
        for i, shape in enumerate(layers):
            score = jax.nn.relu(score) if i else score
            score = jnp.einsum("btc,tu->buc", score, self.param(f"F{i}", kernel_init, shape))
        score = jax.lax.stop_gradient(score)
        at_t = _highest(score, int(C * self.share))
        of_c = _highest(score.swapaxes(1, 2), int(T * self.share)).swapaxes(1, 2)
        return at_t | of_c if self.both_sets else at_t ^ of_c

    def _map(self, name, x, share):
        """[B, 1, H, W, 1]."""
        kernel = self.param(name, kernel_init, (3, 3, 2, 1))
        pooled = jnp.stack([x.mean((1, 4)) / share, maximum(x, (1, 4))], -1)
        return jax.nn.sigmoid(smooth(pooled, kernel))[:, None]

    @nn.nowrap
    def misfit(self, timesteps):
        if not 0 < self.share < 1:
            return f"attention_options.share={self.share} must be above 0 and below 1"
        if self.reduction < 1:
            return f"attention_options.reduction={self.reduction} must be at least 1"
        if timesteps < self.reduction:
            return (
                f"attention_options.reduction={self.reduction} needs at least as many timesteps, "
                f"and timesteps={timesteps}"
            )
        return ""

    @nn.nowrap
    def macs(self, shape):
        T, *size, C = shape
        if not size:
            return 0
        F = T * T if self.reduction == 1 else 2 * T * (T // self.reduction)
        return 2 * T * C + F * C + 36 * math.prod(size) + math.prod(shape)


def _highest(score, count):
    """bool like score [..., N]: its `count` highest along the last axis, of equal ones the first.

    By sorting, not lax.top_k, for which the whole batch would be gathered on every device. By
    ranks, not by comparing scores with the least of them: XLA may compute a score twice with
    different rounding.
    """
    order = jnp.argsort(score, -1, stable=True, descending=True)
    return jnp.argsort(order, -1) < count

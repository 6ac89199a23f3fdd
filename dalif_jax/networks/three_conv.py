"""The small network of TA-SNN, MA-SNN, ASA-SNN and LIAF-Net: convolutions, two linear layers.

    conv3x3 with bias, norm, average pool, attention, neuron         64, 128, 128 wide at 32 x 32
    linear with bias, norm, attention, neuron                        256, then the classes

Answers are rates: loss=mse; attention is the config's, on the current before every neuron. TA and
MA have the same at 128 x 128 for CIFAR10-DVS with five convolutions. ASA norms no linear layer and
drops a tenth of what the last three layers take and give (`head_norm=False`, `dropout=0.1`).

Paper: https://arxiv.org/abs/2107.11711

Certainty: code. The networks are those of the public code of TA-SNN, MA-SNN and ASA-SNN, of LIAF in
TA-SNN's.

Differences:
  1. From TA-SNN's paper: how long a frame lasts at T = 60 is not said; 25 ms, as MA-SNN's, is our
     choice in the recipe.
  2. From LIAF-Net's own code: there pools follow the neuron and biases start at 0.5; here as in
     TA-SNN's, in whose LIAF mode neuron=analog is.
"""

import functools
import math

import flax.linen as nn

from dalif_jax.networks.dropout import Dropout, misfit
from dalif_jax.networks.parts import AveragePool, Parts, show, uniform_init


class ThreeConv(nn.Module):
    classes: int
    parts: Parts
    layers: tuple[tuple[int, int], ...]  # (width, pool) of each convolution
    hidden: int = 256  # width of the first linear layer
    head_norm: bool = True  # whether linear layers are normed
    dropout: float = 0.0  # around the last convolution and both linear layers, masks held over time

    @nn.compact
    def __call__(self, x, train: bool = False, timesteps=None, share=1.0):
        conv, norm, neuron, dense = self.parts[:4]
        timesteps = timesteps or x.shape[1]

        def drop(name, x):
            return Dropout(self.dropout, name=f"{name}_dropout")(x, train)

        for i, (width, pool) in enumerate(self.layers):
            dropped = i == len(self.layers) - 1
            x = drop(f"conv{i}", x) if dropped else x
            x = conv(width, 3, 1, use_bias=True, kernel_init=uniform_init, name=f"conv{i}")(x)
            x = norm(name=f"norm{i}")(x, train, timesteps // x.shape[1])
            x = AveragePool(pool, pool, name=f"pool{i}")(x) if pool > 1 else x
            x = neuron(name=f"neuron{i}")(show(x, timesteps), train, share)
            x = drop(f"neuron{i}", x) if dropped else x
        x = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
        for name, width in (("hidden", self.hidden), ("head", self.classes)):
            x = dense(width, kernel_init=uniform_init, name=name)(drop(name, x))
            x = norm(name=f"{name}_norm")(x, train) if self.head_norm else x
            x = neuron(name=f"{name}_neuron")(x, train, share)
            x = drop(f"{name}_neuron", x)
        return x

    @nn.nowrap
    def misfit(self):
        return misfit(dropout=self.dropout)

    @nn.nowrap
    def last_side(self, side):
        """Side of the last map for images of `side` pixels; 0 where a pool leaves nothing."""
        for _, pool in self.layers:
            side //= pool
        return side

    @nn.nowrap
    def nir(self, graph):
        """Add its nodes to a graph of exchange/interchange.py; returns the last."""
        last = "input"
        for i, (_, pool) in enumerate(self.layers):
            last = graph.conv(f"conv{i}", f"norm{i}", None, last, 1, 3)
            last = graph.pool(f"pool{i}", last, pool, pool) if pool > 1 else last
            last = graph.fire(f"neuron{i}", last)
        for name in ("hidden", "head"):
            norm = f"{name}_norm" if self.head_norm else None
            last = graph.linear(name, f"{name}_neuron", last, norm)
        return last


THREE_CONV = functools.partial(ThreeConv, layers=((64, 1), (128, 2), (128, 2)))
FIVE_CONV = functools.partial(
    ThreeConv, layers=((32, 2), (64, 2), (128, 2), (256, 2), (512, 4))
)  # fmt: skip

"""Spiking VGG-11 and VGG-16, as in the public code DA-LIF grew from (MPBN lineage, ICCV 2023).

Their parameter counts are asserted in the tests.
"""

import functools

import flax.linen as nn

from dalif_jax.networks.parts import AveragePool, GlobalAverage, Parts, show


class VGG(nn.Module):
    """Convolutions with bias, norm, neuron; "P" averages 2x2. Global average, one linear layer."""

    classes: int
    parts: Parts
    layers: tuple[int | str, ...]

    @nn.compact
    def __call__(self, x, train: bool = False, timesteps=None, share=1.0):
        conv, norm, neuron, dense = self.parts[:4]
        i, timesteps = 0, timesteps or x.shape[1]
        for width in self.layers:
            if width == "P":
                x = AveragePool(2, 2, name=f"pool{i}")(x)
                continue
            x = conv(width, 3, 1, use_bias=True, name=f"conv{i}")(x)
            x = norm(name=f"norm{i}")(x, train, timesteps // x.shape[1])
            x = show(x, timesteps)
            x = neuron(name=f"neuron{i}")(x, train, share)
            i += 1
        x = GlobalAverage(name="pool")(x)
        return dense(self.classes, name="head")(x)

    @nn.nowrap
    def last_side(self, side):
        """Side of the last map for images of `side` pixels; 0 where a pool leaves nothing."""
        return side // 2 ** self.layers.count("P")

    @nn.nowrap
    def nir(self, graph):
        """Add its nodes to a graph of exchange/interchange.py; returns what feeds the linear."""
        last, i = "input", 0
        for width in self.layers:
            if width == "P":
                last = graph.pool(f"pool{i}", last, 2, 2)
                continue
            last = graph.conv(f"conv{i}", f"norm{i}", f"neuron{i}", last, 1, 3)
            last = graph.neuron(f"neuron{i}", [last])
            i += 1
        return last


VGG16 = functools.partial(VGG, layers=(
    64, 64, "P", 128, 128, "P", 256, 256, 256, "P", 512, 512, 512, "P", 512, 512, 512, "P",
))  # fmt: skip
VGG11 = functools.partial(
    VGG, layers=(64, "P", 128, "P", 256, 256, "P", 512, 512, "P", 512, 512, "P")
)

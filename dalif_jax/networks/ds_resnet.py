"""DS-ResNet (MLF, Feng et al., IJCAI 2022): blocks that fire on both branches and add the spikes.

The block is blocks.SEWBlock with g = add; the network is a ResNet for CIFAR, 6 n + 2 layers deep.
Its form for DVS128 Gesture norms the input, without scale and bias, and convolutions and linear
layer start at N(0, 2 / fan in).

Paper: https://arxiv.org/abs/2210.06386

Certainty: code. The networks are those of the authors' public code.

Differences:
  1. From the authors' code: its ordinary block, which adds before it fires, is not here.
  2. From the authors' code: its norms are tdBN with a factor of 1 everywhere and eps outside the
     root; here the config's norm, `norm=tdbn` with `summed_scale=1.0` and `epsilon_outside=True`.
"""

import functools

import flax.linen as nn

from dalif_jax.networks.blocks import SEWBlock
from dalif_jax.networks.parts import GlobalAverage, Parts, show

fan_in_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class DSResNet(nn.Module):
    classes: int
    parts: Parts
    n: int  # blocks in each stage
    widths: tuple[int, ...] = (64, 128, 256)
    strides: tuple[int, ...] = (1, 2, 2)
    input_norm: bool = False

    @nn.compact
    def __call__(self, x, train: bool = False, timesteps=None, share=1.0):
        parts = self.parts._replace(
            conv=functools.partial(self.parts.conv, kernel_init=fan_in_init)
        )
        conv, norm, neuron, dense = parts[:4]
        timesteps = timesteps or x.shape[1]
        if self.input_norm:
            x = norm(affine=False, name="input_norm")(x, train, timesteps // x.shape[1])
        x = conv(self.widths[0], 3, 1, name="stem_conv")(x)
        x = norm(name="stem_norm")(x, train, timesteps // x.shape[1])
        x = neuron(name="stem_neuron")(show(x, timesteps), train, share)
        for i, (width, stride) in enumerate(zip(self.widths, self.strides, strict=True)):
            for j in range(self.n):
                block = SEWBlock(width, stride if j == 0 else 1, parts, name=f"stage{i}_block{j}")
                x = block(x, train, share)
        head = dense(self.classes, kernel_init=fan_in_init, name="head")
        return head(GlobalAverage(name="pool")(x))

    @nn.nowrap
    def last_side(self, side):
        """Side of the last map for images of `side` pixels."""
        for stride in self.strides:
            side = -(-side // stride)
        return side

    @nn.nowrap
    def nir(self, graph):
        """Add its nodes to a graph of exchange/interchange.py; returns the last."""
        last = graph.norm_only("input_norm", "input") if self.input_norm else "input"
        last = graph.conv("stem_conv", "stem_norm", "stem_neuron", last, 1, 3)
        last = graph.neuron("stem_neuron", [last])
        for i, (width, stride) in enumerate(zip(self.widths, self.strides, strict=True)):
            for j in range(self.n):
                block = SEWBlock(width, stride if j == 0 else 1, self.parts)
                last = block.nir(graph, f"stage{i}_block{j}/", last)
        return graph.linear("head", None, graph.average("pool", last))


DS_RESNET14 = functools.partial(DSResNet, n=2)
DS_RESNET20 = functools.partial(DSResNet, n=3)
DS_RESNET32 = functools.partial(DSResNet, n=5)
DS_RESNET20_GESTURE = functools.partial(DSResNet, n=3, widths=(16, 32, 64), input_norm=True)

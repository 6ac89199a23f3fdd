"""SEW-ResNet (Fang et al., NeurIPS 2021): residual blocks that join spikes after firing.

The block is blocks.SEWBlock. SEW-ResNet-18 and 34 are for ImageNet, 7B-Net for DVS128 Gesture and
7B-wideNet for CIFAR10-DVS, the last also as GLIF's code has it (48 x 48, averages).

Paper: https://arxiv.org/abs/2102.04159

Certainty: code. The networks are those of the authors' public code and logs, `widenet_7b_glif` that
of GLIF's.

Differences:
  1. From the authors' code: the last norms of 7B-Net start at 0 in the published log, for which the
     released trainer has no flag; here `zero_init_residual=True`, which is not the default.
  2. From the authors' code: the linear layer acts on the mean over time there, here on each
     timestep, before the mean; the answer is the same.
  3. From the authors' code: the library it ran on had an incomplete gradient for PLIF's w; here it
     is complete.
  4. From the authors' code: its networks without shortcuts are not here.
"""

import functools

import flax.linen as nn

from dalif_jax.networks.blocks import SEWBlock, misfit
from dalif_jax.networks.parts import (
    AveragePool,
    GlobalAverage,
    MaxPool,
    Parts,
    show,
    uniform_init,
)


class SEWResNet(nn.Module):
    """For ImageNet: a stem of 7x7 that max pools its spikes, four stages."""

    classes: int
    parts: Parts
    blocks: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    join: str = "add"  # add, and, iand
    zero_init: bool = False

    @nn.compact
    def __call__(self, x, train: bool = False, timesteps=None, share=1.0):
        conv, norm, neuron, dense = self.parts[:4]
        timesteps = timesteps or x.shape[1]
        x = conv(self.widths[0], 7, 2, name="stem_conv")(x)
        # An image shown at all timesteps counts once in the running variance.
        x = norm(name="stem_norm")(x, train)
        x = neuron(name="stem_neuron")(show(x, timesteps), train, share)
        x = MaxPool(3, 2, 1, name="stem_pool")(x)
        for i, (blocks, width) in enumerate(zip(self.blocks, self.widths, strict=True)):
            for j in range(blocks):
                x = SEWBlock(
                    width, 2 if i and j == 0 else 1, self.parts, self.join, self.zero_init,
                    name=f"stage{i}_block{j}",
                )(x, train, share)  # fmt: skip
        head = dense(self.classes, kernel_init=uniform_init, name="head")
        return head(GlobalAverage(name="pool")(x))

    @nn.nowrap
    def misfit(self):
        return misfit(self.join)

    @nn.nowrap
    def last_side(self, side):
        """Side of the last map for images of `side` pixels."""
        for _ in range(len(self.blocks) + 1):
            side = -(-side // 2)
        return side

    @nn.nowrap
    def nir(self, graph):
        graph.refuse("a largest of neighbouring spikes (max pooling)")


class SEWPooled(nn.Module):
    """For event cameras: blocks of one stride, each followed by a pool of its own."""

    classes: int
    parts: Parts
    blocks: tuple[tuple[int, int], ...]  # (width, pool) each; where the width changes, a 1x1 before
    pool: str = "max"  # max, average
    flatten: bool = False  # the last map goes into the linear layer as it is
    join: str = "add"
    zero_init: bool = False

    @nn.compact
    def __call__(self, x, train: bool = False, timesteps=None, share=1.0):
        conv, norm, neuron, dense = self.parts[:4]
        timesteps, width = timesteps or x.shape[1], 0
        for i, (wide, pool) in enumerate(self.blocks):
            if wide != width:
                x = conv(wide, 1, 1, name=f"conv{i}")(x)
                x = norm(name=f"norm{i}")(x, train, timesteps // x.shape[1])
                x = neuron(name=f"neuron{i}")(show(x, timesteps), train, share)
                width = wide
            x = SEWBlock(
                wide, 1, self.parts, self.join, self.zero_init, name=f"block{i}"
            )(x, train, share)  # fmt: skip
            if pool > 1:
                x = (MaxPool if self.pool == "max" else AveragePool)(pool, pool, name=f"pool{i}")(x)
        x = x.reshape(*x.shape[:2], -1) if self.flatten else GlobalAverage(name="pool")(x)
        return dense(self.classes, kernel_init=uniform_init, name="head")(x)

    @nn.nowrap
    def misfit(self):
        if self.pool not in ("max", "average"):
            return f"unknown pool {self.pool!r}; known: max, average"
        return misfit(self.join)

    @nn.nowrap
    def last_side(self, side):
        """Side of the last map for images of `side` pixels; 0 where a pool leaves nothing."""
        for _, pool in self.blocks:
            side //= pool
        return side

    @nn.nowrap
    def nir(self, graph):
        """Add its nodes to a graph of exchange/interchange.py; returns the last."""
        last, width = "input", 0
        for i, (wide, pool) in enumerate(self.blocks):
            if self.pool == "max" and pool > 1:
                graph.refuse("a largest of neighbouring spikes (max pooling)")
            if wide != width:
                last = graph.conv(f"conv{i}", f"norm{i}", f"neuron{i}", last, 1, 1)
                last, width = graph.neuron(f"neuron{i}", [last]), wide
            last = SEWBlock(wide, 1, self.parts, self.join).nir(graph, f"block{i}/", last)
            last = graph.pool(f"pool{i}", last, pool, pool) if pool > 1 else last
        last = last if self.flatten else graph.average("pool", last)
        return graph.linear("head", None, last)


SEW_RESNET18 = functools.partial(SEWResNet, blocks=(2, 2, 2, 2))
SEW_RESNET34 = functools.partial(SEWResNet, blocks=(3, 4, 6, 3))
NET_7B = functools.partial(SEWPooled, blocks=((32, 2),) * 7)
WIDENET_7B = functools.partial(SEWPooled, blocks=((64, 2),) * 4 + ((128, 2),) * 3)
WIDENET_7B_GLIF = functools.partial(
    SEWPooled, blocks=((64, 1),) * 3 + ((64, 2),) + ((128, 2),) * 3, pool="average", flatten=True
)

"""Spiking networks without shortcuts: VGG-11 and VGG-16 as in the public code DA-LIF grew from
(MPBN lineage, ICCV 2023), VGGSNN (TET, ICLR 2022) and the same as PFA has it (PFA's public code).

Their parameter counts are asserted in the tests.

Paper: https://arxiv.org/abs/2308.08359

Certainty: code. VGG-11 and VGG-16 are those of MPBN's public code, VGGSNN that of TET's and, by its
options, of PFA's; `fast` is ours.

Differences:
  1. From TET's code: biases of VGGSNN start uniform to 1 / sqrt(fan in) there, here at 0.
  2. From PFA's code: its network has no biases in convolutions, fires at the end and attends behind
     its pools; `conv_bias=False`, `head_neuron=True`, `pool_attention=True`.
"""

import functools

import flax.linen as nn

from dalif_jax.networks.parts import (
    AveragePool,
    GlobalAverage,
    Join,
    Parts,
    linear_init,
    show,
    uniform_init,
)


class VGG(nn.Module):
    """Convolutions, norm, neuron; "P" averages 2x2. Global average or flattened, one linear layer.

    PFA acts on what the pools give, and on the input (`pool_attention`).
    """

    classes: int
    parts: Parts
    layers: tuple[int | str, ...]
    conv_bias: bool = True
    flatten: bool = False  # the last map goes into the linear layer as it is
    head_bias: bool = True
    head_neuron: bool = False  # the linear layer fires too: answers are rates
    strided: bool = False  # no pools: the convolution before each has a stride of 2
    pool_attention: bool = False  # attention on the input and behind pools, on no current
    shortcuts: bool = False  # past a convolution that keeps the shape: its spikes and those before

    @nn.compact
    def __call__(self, x, train: bool = False, timesteps=None, share=1.0):
        conv, norm, neuron, dense = self.parts[:4]
        timesteps, attend = timesteps or x.shape[1], None
        if self.pool_attention:
            neuron, attend = self.parts.bare, self.parts.attention
            x = attend(name="input_attention")(show(x, timesteps), train)
        for i, (width, stride, pool, past) in enumerate(self.places()):
            before = x
            x = conv(width, 3, stride, use_bias=self.conv_bias, name=f"conv{i}")(x)
            x = norm(name=f"norm{i}", deferred=True)(x, train, timesteps // x.shape[1])
            x = show(x, timesteps)
            x = neuron(name=f"neuron{i}")(x, train, share)
            x = Join(name=f"join{i}")(x, before) if past else x
            if pool:
                x = AveragePool(2, 2, name=f"pool{i + 1}")(x)
                x = attend(name=f"pool{i + 1}_attention")(x, train) if attend else x
        if self.flatten:
            x = x.reshape(*x.shape[:2], -1)
        else:
            x = GlobalAverage(name="pool")(x)
        # As each authors' code starts it.
        init = uniform_init if self.flatten else linear_init
        head = dense(self.classes, use_bias=self.head_bias, kernel_init=init, name="head")
        x = head(x)
        return neuron(name="head_neuron")(x, train, share) if self.head_neuron else x

    @nn.nowrap
    def places(self):
        """[(width, stride, whether a pool follows, whether a shortcut goes past)] of the
        convolutions."""
        around = zip([None, *self.layers], self.layers, [*self.layers[1:], None], strict=False)
        found = []
        for last, width, following in around:
            if width != "P":
                stride = 2 if following == "P" and self.strided else 1
                past = self.shortcuts and last == width and stride == 1
                found.append((width, stride, following == "P" and not self.strided, past))
        return found

    @nn.nowrap
    def last_side(self, side):
        """Side of the last map for images of `side` pixels; 0 where a pool leaves nothing."""
        for _, stride, pool, _ in self.places():
            side = -(-side // stride) // (2 if pool else 1)
        return side

    @nn.nowrap
    def nir(self, graph):
        """Add its nodes to a graph of exchange/interchange.py; returns the last."""
        last = "input"
        for i, (_, stride, pool, past) in enumerate(self.places()):
            before = last
            last = graph.conv(f"conv{i}", f"norm{i}", f"neuron{i}", last, stride, 3)
            last = graph.neuron(f"neuron{i}", [last])
            last = graph.sum(f"join{i}", [last, before]) if past else last
            if pool:
                last = graph.pool(f"pool{i + 1}", last, 2, 2)
        if not self.flatten:
            last = graph.average("pool", last)
        return graph.linear("head", "head_neuron" if self.head_neuron else None, last)


VGG16 = functools.partial(VGG, layers=(
    64, 64, "P", 128, 128, "P", 256, 256, 256, "P", 512, 512, 512, "P", 512, 512, 512, "P",
))  # fmt: skip
VGG11 = functools.partial(
    VGG, layers=(64, "P", 128, "P", 256, 256, "P", 512, 512, "P", 512, 512, "P")
)
# For an hour on two cores, not of a paper: VGG-11 with its last convolutions left out, and pools in
# front of what is dear.
FAST = functools.partial(VGG, layers=(64, "P", 128, 128, "P", 256, 256, "P", 512), conv_bias=False)
VGGSNN = functools.partial(
    VGG, layers=(64, 128, "P", 256, 256, "P", 512, 512, "P", 512, 512, "P"), flatten=True
)

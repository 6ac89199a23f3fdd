"""Classic spiking ResNets, ResNet-18, 19, 20 and 34, of the public code DA-LIF grew from (MPBN
lineage, ICCV 2023); a guess at STBP-tdBN's ResNet-17 (AAAI 2021); and three small ones of ours.

A block is conv3x3 - norm - neuron - conv3x3 - norm - (+ shortcut) - neuron. Parameter counts of the
lineage's are asserted in the tests. Stems, heads and widths of others' are options.

Paper: https://arxiv.org/abs/2308.08359

Certainty: code. ResNet-18, 19, 20 and 34 are those of MPBN's public code; ResNet-17 is a guess of
ours.

Differences:
  1. From MPBN's code: its ResNet-20 starts the last norm of each block at a scale of 0; here
     `zero_init_residual=True`, which is not the default.
  2. From STBP-tdBN's paper: the layers of its ResNet-17 are not public; 17 weighted layers, T = 40
     and 11.18 million parameters are, and `resnet17` has 11.23 million.
  3. From the code of STBP-tdBN (an early one) and TET: their ResNet-19 has two linear layers, with
     a neuron between, and a stem of 64, STBP-tdBN's fires at the end as well; `resnet19` has one
     linear layer and 128, unless `hidden`, `hidden_neuron`, `stem`, `head_neuron` say otherwise.
  4. From TET's code: its convolutions start uniform to 1 / sqrt(fan in), here as MPBN's do.
  5. From GLIF's code: its heads have no bias, `head_bias=False`, and its identity shortcuts are
     normed, `norm_options.identity=True`.
  6. From Diet-SNN's code: its ResNet-20 has strided shortcuts, a flattened last map, a sum over
     time for its answer, no bias and dropout: `pooled_shortcut=False`, `flatten`, `integrate`,
     `head_bias=False`, `dropout`.
  7. From PFA's paper: its ResNet-19 is not public; attention in front of each stage is our choice.
"""

import functools

import flax.linen as nn

from dalif_jax.networks.dropout import Dropout, ModerateDropout, misfit
from dalif_jax.networks.parts import AveragePool, GlobalAverage, Parts, show, uniform_init


class BasicBlock(nn.Module):
    """The shortcut carries spikes where shapes agree, else a 1x1 convolution with norm and no
    neuron: strided, or on the averaged input (`pooled_shortcut`)."""

    width: int
    stride: int
    parts: Parts
    pooled_shortcut: bool = False
    zero_init: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, train: bool, share=1.0):
        conv, norm, neuron = self.parts[:3]
        shortcut = x
        if self.stride != 1 or x.shape[-1] != self.width:
            stride = self.stride
            if self.pooled_shortcut and stride > 1:
                pool = AveragePool(stride, stride, name="shortcut_pool")
                shortcut, stride = pool(x), 1
            shortcut = conv(self.width, 1, stride, name="shortcut_conv")(shortcut)
            shortcut = norm(name="shortcut_norm", summed=True)(shortcut, train)
        elif self.parts.identity:
            shortcut = norm(name="shortcut_norm", summed=True)(shortcut, train)
        y = conv(self.width, 3, self.stride, name="conv0")(x)
        y = norm(name="norm0", deferred=True)(y, train)
        y = neuron(name="neuron0")(y, train, share)
        y = Dropout(self.dropout, name="dropout")(y, train)
        y = conv(self.width, 3, 1, name="conv1")(y)
        y = norm(
            first_scale=0.0 if self.zero_init else 1.0, summed=True, deferred=True, name="norm1"
        )(y, train)
        return neuron(name="neuron1")(y + shortcut, train, share)


class ResNet(nn.Module):
    """A stem of (kernel, width, stride) convolutions, stages of blocks, one linear layer or two."""

    classes: int
    parts: Parts
    stem: tuple[tuple[int, int, int], ...]
    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    stem_pool: tuple[int, int, int] | None = None  # window, stride, padding
    pooled_shortcut: bool = False
    zero_init: bool = False  # start each block's last norm scale at 0
    hidden: int = 0  # width of a linear layer before the last; 0: none
    hidden_neuron: bool = False  # whether neurons fire behind it
    head_bias: bool = True  # of these layers
    head_neuron: bool = False  # the last layer fires too: answers are rates
    stage_attention: bool = False  # attention on spikes in front of each stage, on no current
    flatten: bool = False  # the last map goes into them as it is, not averaged over space
    integrate: bool = False  # the answer is the sum over time, not the mean
    dropout: float = 0.0  # below 1, in blocks and between stem layers, one mask for all timesteps
    moderate_dropout: float = 0.0  # of what goes into the last layer, below 1, see dropout.py

    @nn.compact
    def __call__(self, x, train: bool = False, timesteps=None, share=1.0):
        parts = self.parts
        if self.stage_attention:
            parts = parts._replace(neuron=parts.bare)
        conv, norm, neuron, dense = parts[:4]
        timesteps = timesteps or x.shape[1]
        for i, (kernel, width, stride) in enumerate(self.stem):
            x = conv(width, kernel, stride, name=f"stem{i}_conv")(x)
            x = norm(name=f"stem{i}_norm", deferred=True)(x, train, timesteps // x.shape[1])
            x = show(x, timesteps)
            x = neuron(name=f"stem{i}_neuron")(x, train, share)
            if i < len(self.stem) - 1:
                x = Dropout(self.dropout, name=f"stem{i}_dropout")(x, train)
        if self.stem_pool:
            x = AveragePool(*self.stem_pool, name="stem_pool")(x)
        stages = zip(self.blocks, self.widths, self.strides, strict=True)
        for i, (blocks, width, stride) in enumerate(stages):
            if self.stage_attention:
                x = parts.attention(name=f"stage{i}_attention")(x, train)
            for j in range(blocks):
                x = BasicBlock(
                    width, stride if j == 0 else 1, parts, self.pooled_shortcut,
                    self.zero_init, self.dropout, name=f"stage{i}_block{j}",
                )(x, train, share)  # fmt: skip
        if self.flatten:
            x = x.reshape(*x.shape[:2], -1)
        else:
            x = GlobalAverage(name="pool")(x)
        if self.hidden:
            hidden = {"use_bias": self.head_bias, "kernel_init": uniform_init}
            x = dense(self.hidden, **hidden, name="hidden")(x)
        if self.hidden_neuron:
            x = neuron(name="hidden_neuron")(x, train, share)
        head = dense(self.classes, use_bias=self.head_bias, name="head")
        if self.moderate_dropout:
            drop = ModerateDropout(self.moderate_dropout, name="dropout")
            x, other = drop(x, train, self.is_mutable_collection("tap_second"))
            if other is not None:
                self.put_variable("tap_second", "value", head(other))
        x = head(x) * (timesteps if self.integrate else 1)
        return neuron(name="head_neuron")(x, train, share) if self.head_neuron else x

    @nn.nowrap
    def answers(self):
        """How many answers an example has in training: each with a dropout mask of its own."""
        return 2 if self.moderate_dropout else 1

    @nn.nowrap
    def misfit(self):
        return misfit(dropout=self.dropout, moderate_dropout=self.moderate_dropout)

    @nn.nowrap
    def last_side(self, side):
        """Side of the last map for images of `side` pixels; 0 where a pool leaves nothing or a
        pooled shortcut another size than its branch."""
        for _, _, stride in self.stem:
            side = -(-side // stride)
        if self.stem_pool:
            window, stride, padding = self.stem_pool
            side = max((side + 2 * padding - window) // stride + 1, 0)
        for stride in self.strides:
            if self.pooled_shortcut and side % stride:
                return 0
            side = -(-side // stride)
        return side

    @nn.nowrap
    def nir(self, graph):
        """Add its nodes to a graph of exchange/interchange.py; returns the last."""
        last = "input"
        if self.integrate:
            graph.refuse("its answer is a sum over time")
        for i, (kernel, _, stride) in enumerate(self.stem):
            at = f"stem{i}_"
            last = graph.conv(f"{at}conv", f"{at}norm", f"{at}neuron", last, stride, kernel)
            last = graph.neuron(f"{at}neuron", [last])
        if self.stem_pool:
            last = graph.pool("stem_pool", last, *self.stem_pool)
        stages = zip(self.blocks, self.widths, self.strides, strict=True)
        for i, (blocks, width, first) in enumerate(stages):
            for j in range(blocks):
                stride = first if j == 0 else 1
                last = self._block(graph, f"stage{i}_block{j}/", last, width, stride)
        if not self.flatten:
            last = graph.average("pool", last)
        if self.hidden:
            last = graph.linear("hidden", "hidden_neuron" if self.hidden_neuron else None, last)
        elif self.hidden_neuron:
            last = graph.fire("hidden_neuron", last)
        return graph.linear("head", "head_neuron" if self.head_neuron else None, last)

    @nn.nowrap
    def _block(self, graph, at, last, width, stride):
        after, shortcut, step = f"{at}neuron1", last, stride
        if stride != 1 or graph.shapes[last][0] != width:
            if self.pooled_shortcut and stride > 1:
                shortcut, step = graph.pool(f"{at}shortcut_pool", last, stride, stride), 1
            shortcut = graph.conv(
                f"{at}shortcut_conv", f"{at}shortcut_norm", after, shortcut, step, 1, summed=True
            )
        else:
            norm = f"{at}shortcut_norm" if self.parts.identity else None
            shortcut = graph.identity(f"{at}shortcut", after, last, norm)
        last = graph.conv(f"{at}conv0", f"{at}norm0", f"{at}neuron0", last, stride, 3)
        last = graph.neuron(f"{at}neuron0", [last])
        last = graph.conv(f"{at}conv1", f"{at}norm1", after, last, 1, 3, summed=True)
        return graph.neuron(after, [last, shortcut])


_imagenet = functools.partial(
    ResNet,
    stem=((7, 64, 2),),
    stem_pool=(3, 2, 1),
    widths=(64, 128, 256, 512),
    strides=(1, 2, 2, 2),
)
RESNET18 = functools.partial(_imagenet, blocks=(2, 2, 2, 2))
RESNET34 = functools.partial(_imagenet, blocks=(3, 4, 6, 3))
RESNET19 = functools.partial(
    ResNet, stem=((3, 128, 1),), blocks=(3, 3, 2), widths=(128, 256, 512), strides=(1, 2, 2)
)
# A guess of ours at STBP-tdBN's ResNet-17 for DVS128 Gesture, of which 17 weighted layers, T = 40
# and 11.18 million parameters are known: this has 11.23.
RESNET17 = functools.partial(
    ResNet, stem=((3, 64, 1),), blocks=(1, 2, 2, 2), widths=(64, 128, 256, 512),
    strides=(1, 2, 2, 2), hidden=256, hidden_neuron=True,
)  # fmt: skip
RESNET20 = functools.partial(
    ResNet, stem=((3, 64, 1),) * 3, stem_pool=(2, 2, 0), pooled_shortcut=True,
    blocks=(2, 2, 2, 2), widths=(64, 128, 256, 512), strides=(1, 2, 2, 2),
)  # fmt: skip
# Not of the paper: for two CPU cores, and for tests.
SMALL = functools.partial(
    ResNet, stem=((3, 32, 2),), blocks=(1, 1, 1), widths=(32, 64, 128), strides=(1, 2, 2)
)
MINI = functools.partial(ResNet, stem=((3, 32, 1),), blocks=(1, 1), widths=(32, 64), strides=(1, 2))
TINY = functools.partial(ResNet, stem=((3, 8, 1),), blocks=(1,), widths=(16,), strides=(2,))

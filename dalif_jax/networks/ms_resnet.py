"""MS-ResNet (Hu et al., TNNLS 2024): what blocks add up are currents, not spikes.

    y = x + norm(conv3x3(SN(norm(conv3x3(SN(x))))))
    x = norm(conv1x1(x)) on the shortcut where the shape changes

No neuron follows the sum; one follows the last block. The norm before the sum starts at a scale of
0, so that a block starts as its shortcut, others at the neurons' threshold. Attention, where the
config names one, acts on the branch before the sum, as Att-MS-ResNet has CSA (Yao et al., TPAMI
2023).

Paper: https://arxiv.org/abs/2112.08954

Certainty: code. The networks for ImageNet are those of the authors' public code, whose max pool is
defined and never used; Att-MS-ResNet is that of MA-SNN's.

Differences:
  1. From the paper: its networks for CIFAR are not public, and not here.
  2. From the authors' code: its neurons fire strictly above 0.5 and let no gradient through the
     reset; here they are the config's, `neuron=lif`, `threshold=0.5`, `detach_reset=True`.
  3. From MA-SNN's code: Att-MS-ResNet averages before its shortcuts, starts the last norm of a
     block at 0.1 and has the stem of 7 x 7 at 104 layers too; here `pooled_shortcut=True`,
     `last_scale=0.1` and `stem`.
"""

import functools

import flax.linen as nn

from dalif_jax.networks.dropout import Dropout, misfit
from dalif_jax.networks.parts import AveragePool, GlobalAverage, Parts, show, uniform_init


class MSBlock(nn.Module):
    width: int
    stride: int
    parts: Parts
    scales: tuple[float, float]
    pooled_shortcut: bool

    @nn.compact
    def __call__(self, x, train: bool, share=1.0):
        conv, norm, neuron = self.parts.conv, self.parts.norm, self.parts.bare
        first, last = self.scales
        y = neuron(name="neuron0")(x, train, share)
        y = conv(self.width, 3, self.stride, name="conv0")(y)
        y = norm(first_scale=first, name="norm0")(y, train)
        y = neuron(name="neuron1")(y, train, share)
        y = conv(self.width, 3, 1, name="conv1")(y)
        y = norm(first_scale=last, summed=True, name="norm1")(y, train)
        y = self.parts.attention(name="attention")(y, train)
        if self.stride != 1 or x.shape[-1] != self.width:
            stride = self.stride
            if self.pooled_shortcut and stride > 1:
                x, stride = AveragePool(stride, stride, name="shortcut_pool")(x), 1
            x = conv(self.width, 1, stride, name="shortcut_conv")(x)
            x = norm(first_scale=first, summed=True, name="shortcut_norm")(x, train)
        return y + x


class MSResNet(nn.Module):
    """A stem of convolutions and one norm, without a neuron, and four stages that each halve."""

    classes: int
    parts: Parts
    blocks: tuple[int, ...]
    stem: tuple[tuple[int, int, int], ...] = ((7, 64, 2),)  # kernel, width, stride
    stem_bias: bool = False
    widths: tuple[int, ...] = (64, 128, 256, 512)
    strides: tuple[int, ...] = (2, 2, 2, 2)
    pooled_shortcut: bool = False  # shortcuts average before a 1x1, not stride
    first_scale: float = 0.5  # at the start, of norms; the neurons' threshold
    last_scale: float = 0.0  # at the start, of a block's last norm
    dropout: float = 0.0  # of what goes into the linear layer, one mask for all timesteps

    @nn.compact
    def __call__(self, x, train: bool = False, timesteps=None, share=1.0):
        conv, norm, _, dense = self.parts[:4]
        timesteps = timesteps or x.shape[1]
        for i, (kernel, width, stride) in enumerate(self.stem):
            x = conv(width, kernel, stride, use_bias=self.stem_bias, name=f"stem{i}_conv")(x)
        x = norm(first_scale=self.first_scale, name="stem_norm")(
            x, train, timesteps // x.shape[1]
        )  # fmt: skip
        x = show(x, timesteps)
        scales = self.first_scale, self.last_scale
        for name, width, stride in self.laid_out():
            block = MSBlock(width, stride, self.parts, scales, self.pooled_shortcut, name=name)
            x = block(x, train, share)
        x = self.parts.bare(name="last_neuron")(x, train, share)
        x = Dropout(self.dropout, name="dropout")(GlobalAverage(name="pool")(x), train)
        return dense(self.classes, kernel_init=uniform_init, name="head")(x)

    @nn.nowrap
    def laid_out(self):
        """[(name, width, stride)] of the blocks, in order."""
        stages = zip(self.blocks, self.widths, self.strides, strict=True)
        return [
            (f"stage{i}_block{j}", width, stride if j == 0 else 1)
            for i, (blocks, width, stride) in enumerate(stages)
            for j in range(blocks)
        ]

    @nn.nowrap
    def misfit(self):
        return misfit(dropout=self.dropout)

    @nn.nowrap
    def last_side(self, side):
        """Side of the last map for images of `side` pixels; 0 where a pooled shortcut gives another
        size than its branch."""
        for _, _, stride in self.stem:
            side = -(-side // stride)
        for stride in self.strides:
            if self.pooled_shortcut and side % stride:
                return 0
            side = -(-side // stride)
        return side

    @nn.nowrap
    def nir(self, graph):
        """Add its nodes to a graph of exchange/interchange.py; returns the last."""
        last = "input"
        for i, (kernel, _, stride) in enumerate(self.stem):
            norm = "stem_norm" if i == len(self.stem) - 1 else None
            last = graph.conv(f"stem{i}_conv", norm, None, last, stride, kernel)
        for name, width, stride in self.laid_out():
            last = self._block(graph, f"{name}/", last, width, stride)
        last = graph.average("pool", graph.fire("last_neuron", last))
        return graph.linear("head", None, last)

    @nn.nowrap
    def _block(self, graph, at, x, width, stride):
        y = graph.fire(f"{at}neuron0", x)
        y = graph.conv(f"{at}conv0", f"{at}norm0", f"{at}neuron1", y, stride, 3)
        y = graph.neuron(f"{at}neuron1", [y])
        y = graph.conv(f"{at}conv1", f"{at}norm1", None, y, 1, 3, summed=True)
        if stride != 1 or graph.shapes[x][0] != width:
            if self.pooled_shortcut and stride > 1:
                x, stride = graph.pool(f"{at}shortcut_pool", x, stride, stride), 1
            names = f"{at}shortcut_conv", f"{at}shortcut_norm", None
            x = graph.conv(*names, x, stride, 1, summed=True)
        return graph.sum(f"{at}sum", [y, x])


MS_RESNET18 = functools.partial(MSResNet, blocks=(2, 2, 2, 2))
MS_RESNET34 = functools.partial(MSResNet, blocks=(3, 4, 6, 3))
MS_RESNET104 = functools.partial(
    MSResNet, blocks=(3, 8, 32, 8), stem=((3, 64, 2), (3, 64, 1), (3, 64, 1)), stem_bias=True,
    pooled_shortcut=True, dropout=0.2,
)  # fmt: skip

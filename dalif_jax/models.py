"""The networks: blocks that receive their conv, norm and neuron, and a table of named networks.

Activations are batch-major [B, T, H, W, C]. Convolutions and norms see them folded to [B*T, ...]
(Flax folds leading axes itself), so a batch sharded over devices stays sharded; folded time-major,
the compiler would gather the whole batch on every device.

Every network takes x [B, T, H, W, C], or an image shown at every timestep as x [B, 1, H, W, C] and
`timesteps=T`: the first convolution and norm then run once, not T times, with the same result. It
returns (logits [B, T, classes], taps): `taps` maps a neuron layer's name to the
quantities of `neurons.TAPS` asked for, in the order of depth. The architectures are those of the
public code DA-LIF grew from (MPBN lineage); their parameter counts are asserted in the tests.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from dalif_jax import wide_sums
from dalif_jax.convolution import convolve
from dalif_jax.neurons import NeuronOptions, SpikingNeuron
from dalif_jax.norm import BatchNorm

# PyTorch initialisers of the lineage: conv N(0, sqrt(2 / (k k cout))), linear N(0, 1 / fan_in).
conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def linear_init(key, shape, dtype):
    return nn.initializers.normal(stddev=1.0 / shape[0])(key, shape, dtype)


def show(x, timesteps):
    """[B, 1, ...], the same at every timestep, or [B, T, ...] -> [B, T, ...]."""
    return jnp.broadcast_to(x, (x.shape[0], timesteps, *x.shape[2:]))


class AveragePool(nn.Module):
    """Mean over windows of [B, T, H, W, C]; padding counts as zeros, as PyTorch's default does.

    A module without parameters, so that whoever walks a network's layers meets it by name.
    """

    window: int
    stride: int
    padding: int = 0

    @nn.compact
    def __call__(self, x):
        folded = x.reshape(-1, *x.shape[2:])
        pad = ((self.padding, self.padding),) * 2
        pooled = nn.avg_pool(folded, (self.window,) * 2, (self.stride,) * 2, pad)
        return pooled.reshape(*x.shape[:2], *pooled.shape[1:])


class GlobalAverage(nn.Module):
    """Mean over space: [B, T, H, W, C] -> [B, T, C]."""

    @nn.compact
    def __call__(self, x):
        return x.mean((2, 3))


class BasicBlock(nn.Module):
    """conv3x3 - norm - neuron - conv3x3 - norm - (+ shortcut) - neuron.

    The shortcut carries spikes where shapes agree, else a 1x1 convolution with norm and no neuron:
    strided, or on the averaged input (`pooled_shortcut`).
    """

    width: int
    stride: int
    conv: Callable
    norm: Callable
    neuron: Callable
    pooled_shortcut: bool = False
    zero_init: bool = False

    @nn.compact
    def __call__(self, x, train: bool, taps=()):
        shortcut = x
        if self.stride != 1 or x.shape[-1] != self.width:
            stride = self.stride
            if self.pooled_shortcut and stride > 1:
                pool = AveragePool(stride, stride, name="shortcut_pool")
                shortcut, stride = pool(x), 1
            shortcut = self.conv(self.width, 1, stride, name="shortcut_conv")(shortcut)
            shortcut = self.norm(name="shortcut_norm")(shortcut, train)
        y = self.conv(self.width, 3, self.stride, name="conv0")(x)
        y = self.norm(name="norm0")(y, train)
        y, tap0 = self.neuron(name="neuron0")(y, train, taps)
        y = self.conv(self.width, 3, 1, name="conv1")(y)
        y = self.norm(zero_scale=self.zero_init, name="norm1")(y, train)
        y, tap1 = self.neuron(name="neuron1")(y + shortcut, train, taps)
        return y, {"neuron0": tap0, "neuron1": tap1}


class ResNet(nn.Module):
    """Classic spiking ResNet: a stem of (kernel, width, stride) convolutions, stages of blocks."""

    stem: tuple[tuple[int, int, int], ...]
    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    classes: int
    conv: Callable
    norm: Callable
    neuron: Callable
    dense: Callable
    stem_pool: tuple[int, int, int] | None = None  # window, stride, padding
    pooled_shortcut: bool = False
    zero_init: bool = False

    @nn.compact
    def __call__(self, x, train: bool, taps=(), timesteps=None):
        tapped, timesteps = {}, timesteps or x.shape[1]
        for i, (kernel, width, stride) in enumerate(self.stem):
            x = self.conv(width, kernel, stride, name=f"stem{i}_conv")(x)
            x = self.norm(name=f"stem{i}_norm")(x, train, timesteps // x.shape[1])
            x = show(x, timesteps)
            x, tapped[f"stem{i}_neuron"] = self.neuron(name=f"stem{i}_neuron")(x, train, taps)
        if self.stem_pool:
            x = AveragePool(*self.stem_pool, name="stem_pool")(x)
        stages = zip(self.blocks, self.widths, self.strides, strict=True)
        for i, (blocks, width, stride) in enumerate(stages):
            for j in range(blocks):
                name = f"stage{i}_block{j}"
                block = BasicBlock(
                    width,
                    stride if j == 0 else 1,
                    self.conv,
                    self.norm,
                    self.neuron,
                    self.pooled_shortcut,
                    self.zero_init,
                    name=name,
                )
                x, block_taps = block(x, train, taps)
                tapped |= {f"{name}/{neuron}": tap for neuron, tap in block_taps.items()}
        x = GlobalAverage(name="pool")(x)
        return self.dense(self.classes, name="head")(x), tapped


class VGG(nn.Module):
    """Convolutions with bias, norm, neuron; "P" averages 2x2. Global average, one linear layer."""

    layers: tuple[int | str, ...]
    classes: int
    conv: Callable
    norm: Callable
    neuron: Callable
    dense: Callable
    zero_init: bool = False  # accepted and unused: there is no residual branch

    @nn.compact
    def __call__(self, x, train: bool, taps=(), timesteps=None):
        tapped, i, timesteps = {}, 0, timesteps or x.shape[1]
        for width in self.layers:
            if width == "P":
                x = AveragePool(2, 2, name=f"pool{i}")(x)
                continue
            x = self.conv(width, 3, 1, use_bias=True, name=f"conv{i}")(x)
            x = self.norm(name=f"norm{i}")(x, train, timesteps // x.shape[1])
            x = show(x, timesteps)
            x, tapped[f"neuron{i}"] = self.neuron(name=f"neuron{i}")(x, train, taps)
            i += 1
        x = GlobalAverage(name="pool")(x)
        return self.dense(self.classes, name="head")(x), tapped


_imagenet = functools.partial(
    ResNet,
    stem=((7, 64, 2),),
    stem_pool=(3, 2, 1),
    widths=(64, 128, 256, 512),
    strides=(1, 2, 2, 2),
)
# fmt: off
NETWORKS = {
    "resnet18": functools.partial(_imagenet, blocks=(2, 2, 2, 2)),
    "resnet34": functools.partial(_imagenet, blocks=(3, 4, 6, 3)),
    "resnet19": functools.partial(
        ResNet, stem=((3, 128, 1),),
        blocks=(3, 3, 2), widths=(128, 256, 512), strides=(1, 2, 2)),
    "resnet20": functools.partial(
        ResNet, stem=((3, 64, 1),) * 3, stem_pool=(2, 2, 0), pooled_shortcut=True,
        blocks=(2, 2, 2, 2), widths=(64, 128, 256, 512), strides=(1, 2, 2, 2)),
    "vgg16": functools.partial(VGG, layers=(
        64, 64, "P", 128, 128, "P", 256, 256, 256, "P", 512, 512, 512, "P", 512, 512, 512, "P")),
    "vgg11": functools.partial(VGG, layers=(
        64, "P", 128, "P", 256, 256, "P", 512, 512, "P", 512, 512, "P")),
    # Not of the paper: for two CPU cores, and for tests.
    "small": functools.partial(
        ResNet, stem=((3, 32, 2),), blocks=(1, 1, 1), widths=(32, 64, 128), strides=(1, 2, 2)),
    "mini": functools.partial(
        ResNet, stem=((3, 32, 1),), blocks=(1, 1), widths=(32, 64), strides=(1, 2)),
    "tiny": functools.partial(
        ResNet, stem=((3, 8, 1),), blocks=(1,), widths=(16,), strides=(2,)),
}
# fmt: on


def last_side(name, side):
    """Side of a named network's last map for images of `side` pixels; 0 where a pool leaves nothing
    or a pooled shortcut another size than its branch."""
    network, keys = NETWORKS[name].func, NETWORKS[name].keywords
    if network is VGG:
        return side // 2 ** keys["layers"].count("P")
    for _, _, stride in keys["stem"]:
        side = -(-side // stride)
    if "stem_pool" in keys:
        window, stride, padding = keys["stem_pool"]
        side = max((side + 2 * padding - window) // stride + 1, 0)
    for stride in keys["strides"]:
        if keys.get("pooled_shortcut") and side % stride:
            return 0
        side = -(-side // stride)
    return side


def build(
    name,
    classes,
    options=NeuronOptions(),  # noqa: B008
    dtype=jnp.float32,
    zero_init=False,
    mesh=None,
    pallas=False,
) -> Any:
    """The named network as a Flax module.

    Args:
      name: a key of NETWORKS.
      classes: number of logits.
      options: of every neuron layer.
      dtype: of convolutions and activations; parameters, norms and membranes are wider.
      zero_init: start each residual branch's last norm scale at 0 (MPBN's ResNet-20).
      mesh: of the devices that train it; bfloat16 gradients are then summed across them in
        float32 (wide_sums). Inference needs none.
      pallas: whether neurons run as Pallas kernels on the mesh's GPUs (fused.spikes).
    Raises:
      ValueError: unknown name.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(NETWORKS)}")
    wide = jnp.result_type(float)
    Conv, conv_keys, Dense, dense_keys = wide_sums.layers(dtype, mesh, convolve)

    def conv(width, kernel, stride, use_bias=False, name=None):
        # Explicit padding: 'SAME' at stride 2 would pad the other side than the papers' networks.
        pad = ((kernel // 2, kernel // 2),) * 2
        return Conv(
            width, (kernel,) * 2, (stride,) * 2, pad, use_bias=use_bias,
            kernel_init=conv_init, dtype=dtype, param_dtype=wide,
            name=name, **conv_keys,
        )  # fmt: skip

    return NETWORKS[name](
        classes=classes,
        conv=conv,
        norm=functools.partial(BatchNorm, dtype=dtype),
        neuron=functools.partial(SpikingNeuron, options, mesh if pallas else None),
        dense=functools.partial(
            Dense, kernel_init=linear_init, dtype=dtype, param_dtype=wide, **dense_keys
        ),
        zero_init=zero_init,
    )


def stream(model, variables, state, x):
    """One timestep of a trained network on streaming input.

    Args:
      model, variables: the network and its parameters and running statistics.
      state: {} before the first step, then what the previous call returned.
      x: [B, H, W, C], the input of this timestep.
    Returns:
      (state, logits [B, classes] of this timestep). The network's answer after T steps is the mean
      of their logits.
    """
    (logits, _), new = model.apply(
        {**variables, "stream": state}, x[:, None], train=False, mutable=["stream"]
    )
    return new["stream"], logits[:, 0]

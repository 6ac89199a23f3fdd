"""STS-Transformer (Wang et al., "Spatial-temporal self-attention for asynchronous SNNs", IJCAI
2023): every place at every timestep attends to all places of its own and earlier timesteps.

    Q, K, V = SN(norm(linear(x)))                        spikes, M = T N tokens of N places
    A       = (Q K^T + B) where key step <= query step   no softmax, no scale; else 0
    y       = SN(norm(linear(SN(V's sum by A / 8))))
    x       = x + y, then x = x + SN(norm(linear(SN(norm(linear(x))))))

B has a number for each difference in time, row and column. The stem is five convolutions with
norms and neurons, the first four with max pools, the last added to what it takes. Convolutions of
1x1 are the linear layers. Streaming, past keys and values are kept; beyond the T it was trained for
there is no bias, and its answers are NaN.

Paper: https://www.ijcai.org/proceedings/2023/344

Certainty: code. The network for DVS128 Gesture is that of the authors' public code.

Differences:
  1. From the authors' code: its reshape mixes time, channels and examples; here tokens are what the
     paper says.
  2. From the authors' code: its second, unused projection to Q, K and V is left out.
  3. From the authors' code: biases of 1x1 convolutions start uniform to 1 / sqrt(fan in) there,
     here at 0.
  4. From the paper: its network for CIFAR10-DVS is not public; here the same with ten classes.
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dalif_jax.networks.dropout import Dropout, misfit
from dalif_jax.networks.parts import GlobalAverage, Join, MaxPool, Parts, show, uniform_init

narrow_init = nn.initializers.truncated_normal(0.02)
SCALE = 0.125  # of what attention sums


class CausalAttention(nn.Module):
    """q, k, v [B, T, H, W, D] of spikes -> sum over visible tokens of (q k + bias) v / 8.

    Applied with `stream` mutable, it adds k and v to what it kept of steps before and answers for
    the steps at hand, as many as it was built for. Applied with `tap_products` mutable it leaves
    there how many products were of two spikes, int32 [B].
    """

    heads: int = 1
    layer: ClassVar[str] = "attention"

    @nn.compact
    def __call__(self, q, k, v):
        B, T, H, W, D = q.shape
        size = ((2 * T - 1) * (2 * H - 1) * (2 * W - 1), self.heads)
        most = T
        if self.has_variable("params", "bias"):
            size = self.get_variable("params", "bias").shape
            most = timesteps_of(size[0], H, W)
            if most < T:
                raise ValueError(
                    f"attention between places was built for {most} timesteps of such maps and "
                    f"was given {T}, of {H} x {W}; build and train it for what it is to run"
                )
        wide = jnp.promote_types(q.dtype, jnp.float32)
        table = self.param("bias", narrow_init, size, jnp.result_type(float))
        first = jnp.int32(0)
        if self._asked("stream"):
            kept = self.variable(
                "stream", "kept", lambda: (jnp.zeros((2, B, most, H, W, D), q.dtype), first)
            )
            (keys, values), first = kept.value
            k, v = (
                jax.lax.dynamic_update_slice_in_dim(old, new, first, 1)
                for old, new in ((keys, k), (values, v))
            )
            if not self._asked("stream_start"):
                kept.value = jnp.stack([k, v]), first + T
        tokens = lambda a: a.reshape(B, -1, self.heads, D // self.heads)  # noqa: E731
        q, k, v = tokens(q), tokens(k), tokens(v)
        places = _places(T, H, W, first), _places(k.shape[1] // (H * W), H, W, 0)
        visible = places[0][0][:, None] >= places[1][0]
        bias = table[_rows(*places, most, H, W)].transpose(2, 0, 1).astype(wide)
        products = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=wide)
        scores = jnp.where(visible, products + bias, 0.0)
        y = SCALE * jnp.einsum("bhqk,bkhd->bqhd", scores, v, preferred_element_type=wide)
        if self._asked("tap_products"):
            both = jnp.where(visible, products, 0.0).astype(jnp.int32).sum((1, 2, 3))
            driven = (v != 0).sum((2, 3)) * visible.sum(0)  # every query that sees a value's spike
            self.put_variable("tap_products", "value", both + driven.sum(1, dtype=jnp.int32))
        return y.reshape(B, T, H, W, D)

    @nn.nowrap
    def products(self, shape):
        """Products of two values of a call on an example of `shape` (T, H, W, D), all visible."""
        T, H, W, D = shape
        pairs = (H * W) ** 2 * T * (T + 1) // 2
        return 2 * pairs * D

    def _asked(self, collection):
        return self.is_mutable_collection(collection) and not self.is_initializing()


def timesteps_of(rows, H, W):
    """How many timesteps of H x W places a table of so many rows has biases for; 0: other maps."""
    steps, rest = divmod(rows, (2 * H - 1) * (2 * W - 1))
    return 0 if rest else (steps + 1) // 2


def _places(T, H, W, first):
    """(step, row, column) of tokens in order, int32 [T H W] each."""
    grid = jnp.meshgrid(*(jnp.arange(n, dtype=jnp.int32) for n in (T, H, W)), indexing="ij")
    t, h, w = (axis.reshape(-1) for axis in grid)
    return t + first, h, w


def _rows(query, key, T, H, W):
    """int32 [Q, K]: the row of the table for each pair, from their differences."""
    dt, dh, dw = (q[:, None] - k for q, k in zip(query, key, strict=True))
    return ((dt + T - 1) * (2 * H - 1) + dh + H - 1) * (2 * W - 1) + dw + W - 1


class Encoder(nn.Module):
    parts: Parts
    heads: int
    ratio: int
    dropout: float

    @nn.compact
    def __call__(self, x, train: bool, share=1.0):
        D = x.shape[-1]

        def fire(name, x, width, bias=True, rate=0.0):
            """Linear, dropout of each timestep's own, norm, neuron."""
            conv = self.parts.conv
            x = conv(width, 1, 1, use_bias=bias, kernel_init=uniform_init, name=f"{name}_conv")(x)
            x = Dropout(rate, held=False, name=f"{name}_dropout")(x, train)
            x = self.parts.norm(name=f"{name}_norm")(x, train)
            return self.parts.neuron(name=f"{name}_neuron")(x, train, share)

        q, k, v = jnp.split(fire("qkv", x, 3 * D, bias=False), 3, -1)
        y = CausalAttention(self.heads, name="attention")(q, k, v).astype(x.dtype)
        y = self.parts.neuron(name="attention_neuron")(y, train, share)
        x = Join(name="join0")(fire("out", y, D), x)
        y = fire("mlp0", x, D * self.ratio, rate=self.dropout)
        return Join(name="join1")(fire("mlp1", y, D, rate=self.dropout), x)


class STSTransformer(nn.Module):
    classes: int
    parts: Parts
    widths: tuple[int, ...] = (16, 32, 64, 256)  # of the stem, each max pooled to half
    depth: int = 2  # encoders
    heads: int = 1
    ratio: int = 1  # width of the MLP over that of tokens
    dropout: float = 0.3  # in the MLP, before its norms

    @nn.compact
    def __call__(self, x, train: bool = False, timesteps=None, share=1.0):
        conv, norm, neuron, dense = self.parts[:4]
        timesteps = timesteps or x.shape[1]

        def fire(i, x, width):
            x = conv(width, 3, 1, kernel_init=uniform_init, name=f"stem{i}_conv")(x)
            x = norm(name=f"stem{i}_norm")(x, train, timesteps // x.shape[1])
            return neuron(name=f"stem{i}_neuron")(show(x, timesteps), train, share)

        for i, width in enumerate(self.widths):
            x = MaxPool(3, 2, 1, name=f"stem{i}_pool")(fire(i, x, width))
        x = Join(name="stem_join")(fire(len(self.widths), x, self.widths[-1]), x)
        for i in range(self.depth):
            block = Encoder(self.parts, self.heads, self.ratio, self.dropout, name=f"block{i}")
            x = block(x, train, share)
        _, T, *size, _ = x.shape
        x = GlobalAverage(name="pool")(x)
        x = dense(self.classes, kernel_init=narrow_init, name="head")(x)
        if self.is_mutable_collection("stream") and not self.is_initializing():
            # There is no bias for later steps: no answer, where an error could not be raised.
            rows = self.variables["params"]["block0"]["attention"]["bias"].shape[0]
            steps = self.variable("stream", "steps", lambda: jnp.int32(0))
            done = steps.value + T
            x = jnp.where(done <= timesteps_of(rows, *size), x, jnp.nan)
            if not self.is_mutable_collection("stream_start"):
                steps.value = done
        return x

    @nn.nowrap
    def misfit(self):
        if self.depth < 1:
            return f"model_options.depth={self.depth} must be at least 1"
        if self.heads < 1 or self.widths[-1] % self.heads:
            return (
                f"model_options.heads={self.heads} must divide the {self.widths[-1]} channels of a "
                "token"
            )
        return misfit(dropout=self.dropout)

    @nn.nowrap
    def last_side(self, side):
        """Side of the maps of tokens for images of `side` pixels."""
        for _ in self.widths:
            side = -(-side // 2)
        return side

    @nn.nowrap
    def nir(self, graph):
        graph.refuse("attention between its places")

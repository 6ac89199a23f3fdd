"""Networks: parameter counts of the papers, hand-worked layers, a NumPy forward, streaming."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalif_jax import attention, networks
from dalif_jax.analysis import summary
from dalif_jax.neurons import NEURONS
from dalif_jax.neurons import options as options_of
from dalif_jax.norms import BatchNorm

# network, classes, input, parameters without and with membrane BN, neuron layers (paper, Table III
# and the public code's layer lists).
COUNTS = [
    ("resnet20", 100, (32, 32, 3), 11_294_154, 11_302_218, 19),
    ("resnet20", 10, (64, 64, 2), 11_247_408, 11_255_472, 19),
    ("resnet18", 1000, (224, 224, 3), 11_689_546, 11_697_354, 17),
    ("resnet34", 1000, (224, 224, 3), 21.798e6, 21.813e6, 33),
    ("resnet19", 100, (32, 32, 3), 12.615e6, 12.624e6, 17),
    ("vgg16", 100, (32, 32, 3), 14.774e6, 14.783e6, 13),
    ("vgg11", 11, (128, 128, 2), 9.231e6, 9.237e6, 8),
]


@pytest.mark.parametrize(("name", "classes", "shape", "plain", "normed", "neurons"), COUNTS)
def test_parameter_counts(name, classes, shape, plain, normed, neurons):
    for membrane_bn, expected in ((False, plain), (True, normed)):
        model = networks.build(name, classes, options_of(membrane_bn=membrane_bn))
        rows = summary.layers(model, (2, *shape))
        total = sum(row.parameters for row in rows)
        if isinstance(expected, int):
            assert total == expected
        else:
            assert round(total / 1e6, 3) == expected / 1e6
        assert sum(row.kind == "SpikingNeuron" for row in rows) == neurons
        assert rows[-1].shape == (2, classes)
        assert summary.table(rows).endswith(f"parameters: {total}")


def test_unknown_model_lists_the_known():
    with pytest.raises(ValueError, match="known: resnet18, resnet34"):
        networks.build("resnet50", 10)


def test_padding_one_at_stride_two_is_not_same():
    """Top left output reads x[0:2, 0:2]; 'SAME' would read x[0:3, 0:3] of a 6x6 image."""
    conv = networks.build("tiny", 10).parts.conv(1, 3, 2)
    x = jnp.arange(36.0).reshape(1, 1, 6, 6, 1)
    y = conv.apply({"params": {"kernel": jnp.ones((3, 3, 1, 1))}}, x)
    assert y.shape == (1, 1, 3, 3, 1)
    assert y[0, 0, 0, 0, 0] == 0 + 1 + 6 + 7
    assert y[0, 0, 2, 2, 0] == x[0, 0, 3:6, 3:6].sum()


@pytest.mark.parametrize(("size", "window"), [((6, 4), 2), ((7, 5), 2), ((9, 8), 4)])
def test_average_pools_of_bfloat16_are_those_of_float32_rounded(size, window):
    """What does not fill a window at the right and the bottom is left out, as in PyTorch."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, *size, 5)), jnp.bfloat16)
    pool = lambda x: networks.AveragePool(window, window).apply({}, x)  # noqa: E731
    (y, pull), (expected, wide) = (jax.vjp(pool, v) for v in (x, x.astype(jnp.float32)))
    assert y.dtype == jnp.bfloat16 and y.shape == expected.shape
    np.testing.assert_allclose(y.astype(jnp.float32), expected, rtol=2**-8, atol=1e-6)
    found, given = pull(y)[0], wide(y.astype(jnp.float32))[0]
    np.testing.assert_allclose(found.astype(jnp.float32), given, rtol=2**-8, atol=1e-6)


def test_padded_average_pool_counts_its_padding():
    """ImageNet's AvgPool(3, 2, 1): the corner window holds 4 pixels and divides by 9."""
    x = jnp.ones((1, 2, 6, 6, 1))
    y = networks.AveragePool(3, 2, 1).apply({}, x)
    np.testing.assert_allclose(y[0, 1, :, :, 0][0], [4 / 9, 6 / 9, 6 / 9], rtol=1e-6)


def test_norm_is_the_papers():
    """PyTorch's momentum 0.1, unbiased running variance, over batch, time and space at once."""
    x = np.random.default_rng(0).normal(2.0, 3.0, (2, 3, 2, 2, 5)).astype(np.float32)
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), x, True)
    y, new = norm.apply(variables, x, True, mutable=["batch_stats"])
    flat = x.reshape(-1, 5)
    np.testing.assert_allclose(new["batch_stats"]["mean"], 0.1 * flat.mean(0), rtol=1e-5)
    expected = 0.9 + 0.1 * flat.var(0, ddof=1)
    np.testing.assert_allclose(new["batch_stats"]["var"], expected, rtol=1e-5)
    expected = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    np.testing.assert_allclose(y.reshape(-1, 5), expected, rtol=1e-4, atol=1e-5)
    # In evaluation the running statistics: 0 and 1 at the start.
    np.testing.assert_allclose(norm.apply(variables, x, False), x / np.sqrt(1 + 1e-5), rtol=1e-6)


def initialise(model, x):
    return jax.jit(lambda key: model.init(key, x, False))(jax.random.key(0))


def test_initialisers_are_the_papers():
    model = networks.build("resnet19", 100, options_of())
    params = initialise(model, jnp.zeros((1, 1, 32, 32, 3)))["params"]
    kernel = params["stage1_block1"]["conv0"]["kernel"]
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (9 * 256)), rtol=0.01)
    np.testing.assert_allclose(params["head"]["kernel"].std(), 1 / 512, rtol=0.02)
    assert (params["head"]["bias"] == 0).all()
    assert params["stem0_neuron"] == {"a": 1.0, "b": 1.0}


def test_zero_init_residual_zeroes_the_last_norm_of_each_block():
    x = jnp.zeros((1, 1, 8, 8, 1))
    for zero in (False, True):
        params = initialise(networks.build("mini", 10, zero_init=zero), x)["params"]
        assert (params["stage0_block0"]["norm1"]["scale"] == (0.0 if zero else 1.0)).all()
        assert (params["stage0_block0"]["norm0"]["scale"] == 1.0).all()


def random_variables(model, x):
    """Initial variables with norm statistics and scales that are not 0 and 1."""
    variables = initialise(model, x)
    leaves, tree = jax.tree.flatten_with_path(variables)
    rng = np.random.default_rng(7)
    out = []
    for path, leaf in leaves:
        name = path[-1].key
        if name.endswith(("var", "scale")):
            leaf = jnp.asarray(rng.uniform(0.3, 0.8, leaf.shape))
        elif name.endswith(("mean", "bias")):
            leaf = jnp.asarray(rng.normal(0.1, 0.3, leaf.shape))
        out.append(leaf)
    return jax.tree.unflatten(tree, out)


def numpy_tiny(variables, x):
    """The tiny network in evaluation, by loops over NumPy arrays: logits [B, T, K]."""
    p, s = variables["params"], variables["batch_stats"]

    def conv(x, kernel, stride):
        k = kernel.shape[0]
        pad = k // 2
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        size = (x.shape[1] - k) // stride + 1
        out = np.zeros((len(x), size, size, kernel.shape[-1]))
        for i in range(size):
            for j in range(size):
                window = x[:, i * stride : i * stride + k, j * stride : j * stride + k]
                out[:, i, j] = np.tensordot(window, kernel, 3)
        return out

    def norm(x, p, s):
        return (x - s["mean"]) / np.sqrt(s["var"] + 1e-5) * p["scale"] + p["bias"]

    def fire(x, u, p):
        h = np.tanh(p["b"]) * u + np.tanh(p["a"]) * x
        spike = (h >= 1.0) * 1.0
        return spike, h * (1 - spike)

    block, stats = p["stage0_block0"], s["stage0_block0"]
    u = [0.0, 0.0, 0.0]
    logits = []
    for t in range(x.shape[1]):
        y = norm(conv(x[:, t], p["stem0_conv"]["kernel"], 1), p["stem0_norm"], s["stem0_norm"])
        y, u[0] = fire(y, u[0], p["stem0_neuron"])
        shortcut = conv(y, block["shortcut_conv"]["kernel"], 2)
        shortcut = norm(shortcut, block["shortcut_norm"], stats["shortcut_norm"])
        y = norm(conv(y, block["conv0"]["kernel"], 2), block["norm0"], stats["norm0"])
        y, u[1] = fire(y, u[1], block["neuron0"])
        y = norm(conv(y, block["conv1"]["kernel"], 1), block["norm1"], stats["norm1"])
        y, u[2] = fire(y + shortcut, u[2], block["neuron1"])
        logits.append(y.mean((1, 2)) @ p["head"]["kernel"] + p["head"]["bias"])
    return np.stack(logits, 1)


def test_the_tiny_network_agrees_with_numpy(x64):
    x = jnp.asarray(np.random.default_rng(1).normal(0, 2.0, (3, 4, 8, 8, 1)))
    model = networks.build("tiny", 10, dtype=jnp.float64)
    variables = random_variables(model, x)
    logits, taps, _ = jax.jit(lambda v: networks.tapped(model, v, x, ("firing_rate",)))(variables)
    expected = numpy_tiny(jax.tree.map(np.asarray, variables), np.asarray(x))
    np.testing.assert_allclose(logits, expected, rtol=1e-9, atol=1e-9)
    assert all(0.01 < tap["firing_rate"] < 0.9 for tap in taps.values())


@pytest.mark.parametrize("timesteps", [1, 4, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("neuron", [n for n, k in NEURONS.items() if "stream" not in k.refuses])
def test_one_step_at_a_time_gives_the_same_spikes(neuron, timesteps, x64):
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.normal(0, 2.0, (2, timesteps, 6, 6, 2)))
    for membrane_bn in (False, True) if neuron == "dalif" else (False,):
        options = options_of(neuron, membrane_bn=membrane_bn)
        model = networks.build("tiny", 10, options, jnp.float64)
        variables = random_variables(model, x)
        logits = jax.jit(lambda v, x, m=model: m.apply(v, x, train=False))(variables, x)
        one_by_one = jax.jit(functools.partial(streamed, model))(variables, x)
        # Logits are linear in the last layer's spikes: one differing spike would show.
        np.testing.assert_allclose(one_by_one, logits, rtol=1e-12, atol=1e-12)


def streamed(model, variables, x):
    """Logits [B, T, classes] of a network that is shown one timestep of x [B, T, ...] at a time."""
    if x.shape[1] == 1:
        return networks.stream(model, variables, {}, x[:, 0])[1][:, None]
    step = functools.partial(networks.stream, model, variables)
    first = networks.stream_state(model, variables, x[:, 0])
    return jnp.moveaxis(jax.lax.scan(step, first, jnp.moveaxis(x, 1, 0))[1], 0, 1)


def test_stream_from_a_scan_of_a_transformer(x64):
    x = jnp.asarray(np.random.default_rng(5).normal(0, 2.0, (2, 3, 8, 8, 2)))
    model = networks.build("sts_transformer", 5, "lif", jnp.float64, widths=(6, 8))
    variables = random_variables(model, x)
    logits = model.apply(variables, x, train=False)
    np.testing.assert_allclose(streamed(model, variables, x), logits, rtol=1e-9, atol=1e-9)


def test_taps_are_given_on_request_and_only_then():
    x = jnp.asarray(np.random.default_rng(3).normal(0, 2.0, (2, 3, 8, 8, 1)), jnp.float32)
    model = networks.build("tiny", 10)
    variables = initialise(model, x)
    logits, new = model.apply(variables, x, mutable=["batch_stats"])
    assert list(new) == ["batch_stats"] and logits.shape == (2, 3, 10)
    assert networks.tapped(model, variables, x, ())[1:] == ({}, {})
    _, taps, _ = networks.tapped(model, variables, x, ("spikes", "membrane", "firing_rate"))
    assert list(taps) == ["stem0_neuron", "stage0_block0/neuron0", "stage0_block0/neuron1"]
    for tap in taps.values():
        np.testing.assert_array_equal(tap["spikes"], tap["membrane"] >= 1.0)
        np.testing.assert_allclose(tap["firing_rate"], tap["spikes"].mean(), rtol=1e-6)


def test_fan_out_by_hand():
    """Tiny on 8x8: stem spikes meet a 3x3 stride 2 convolution and a 1x1 stride 2 shortcut."""
    layers = summary.neuron_layers(networks.build("tiny", 10), (2, 8, 8, 1))
    stem = layers["stem0_neuron"]
    assert stem.neurons == 8 * 8 * 8
    # Outputs at 0, 2, 4, 6 read i-1..i+1: even positions one of them, odd ones two, 7 only one;
    # even-even ones also meet the 1x1 shortcut. 16 channels each.
    reads = np.array([1, 2, 1, 2, 1, 2, 1, 1])
    even = np.arange(8) % 2 == 0
    expected = 16 * (np.outer(reads, reads) + np.outer(even, even))
    np.testing.assert_array_equal(stem.fan_out, expected)
    # 4x4 maps before a 3x3 convolution of 16 channels: 2 reads at the border, 3 inside.
    inner = np.array([2, 3, 3, 2])
    np.testing.assert_array_equal(
        layers["stage0_block0/neuron0"].fan_out, 16 * np.outer(inner, inner)
    )
    # Behind the global average every spike meets the ten outputs.
    assert (layers["stage0_block0/neuron1"].fan_out == 10).all()


def test_fan_out_counts_every_connection_of_resnet20():
    """Summed over positions and channels it is each layer's dense operations in one timestep:
    for a stride 1 convolution on 16x16 with 64 to 64 channels, (3*16 - 2)^2 * 64 * 64."""
    layers = summary.neuron_layers(networks.build("resnet20", 100), (1, 32, 32, 3))
    inner = layers["stage0_block0/neuron0"]
    assert int(inner.fan_out.sum()) * 64 == (3 * 16 - 2) ** 2 * 64 * 64
    assert int(layers["stage3_block1/neuron1"].fan_out.sum()) == 4 * 100


@pytest.mark.parametrize("name", ["tiny", pytest.param("vgg11", marks=pytest.mark.slow)])
def test_an_image_shown_at_every_timestep_meets_the_stem_once(x64, name):
    """The same logits, running statistics and gradients as T copies of it, with T times less work
    before the first neuron."""
    model = networks.build(name, 10, dtype=jnp.float64)
    image = jnp.asarray(np.random.default_rng(0).normal(size=(3, 1, 16, 16, 2)))
    variables = model.init(jax.random.key(1), image, train=False)
    copies = jnp.repeat(image, 3, 1)

    def loss(params, x, timesteps):
        logits, new = model.apply(
            {**variables, "params": params}, x, train=True, timesteps=timesteps,
            mutable=["batch_stats"],
        )  # fmt: skip
        return (logits * jnp.arange(10)).sum(), (logits, new)

    run = jax.jit(jax.grad(loss, has_aux=True), static_argnums=2)
    once = run(variables["params"], image, 3)
    thrice = run(variables["params"], copies, None)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-11), once, thrice)
    assert once[1][0].shape == (3, 3, 10)


def test_attention_that_needs_every_timestep_does_not_stream(monkeypatch):
    class Whole(nn.Module):
        refuses_stream = "it averages over time"

        @nn.compact
        def __call__(self, x, train):
            return x - x.mean(1, keepdims=True)

    monkeypatch.setitem(attention.ATTENTION, "whole", Whole)
    model = networks.build("tiny", 10, attention="whole")
    x = jnp.ones((1, 2, 8, 8, 1))
    variables = initialise(model, x)
    assert model.apply(variables, x).shape == (1, 2, 10)
    with pytest.raises(ValueError, match="attention=whole does not stream: it averages over time"):
        networks.stream(model, variables, {}, x[:, 0])
    with pytest.raises(ValueError, match=r"unknown attention .none at all.; known: none, ta, "):
        networks.build("tiny", 10, attention="none at all")
    with pytest.raises(ValueError, match="model=tiny has no option 'depth'; its own are: stem"):
        networks.build("tiny", 10, depth=3)

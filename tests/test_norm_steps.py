"""Which values a training batch's statistics are of: all timesteps, each one, an image once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from configs.base import get_config as base
from dalif_jax import networks, neurons, norms
from dalif_jax.norms import BatchNorm
from dalif_jax.settings import config as settings

SMALL = {
    "plifnet_cifar10": {"layers": (4, "P"), "hidden": 8, "dropout": (0.0, 0.0)},
    "sew_resnet18": {"blocks": (1,), "widths": (4,)},
}


def test_norm_per_step_equals_one_call_per_step(x64):
    """PyTorch's loop over time: T calls, each with its statistics and one update."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 4, 5))) * jnp.array(
        [1.0, 4.0, 9.0]
    ).reshape(3, 1, 1, 1)
    joint, apart = BatchNorm(jnp.float64), BatchNorm(jnp.float64, per_step=True)
    variables, outputs = joint.init(jax.random.key(0), x, True), []
    y, new = apart.apply(variables, x, True, mutable=["batch_stats"])
    for t in range(3):
        out, stats = joint.apply(variables, x[:, t], True, mutable=["batch_stats"])
        variables = {**variables, **stats}
        outputs.append(out)
    np.testing.assert_allclose(y, np.stack(outputs, 1), rtol=1e-12)
    for key, value in new["batch_stats"].items():
        np.testing.assert_allclose(value, variables["batch_stats"][key], rtol=1e-12)
    same = [norm.apply(variables, x, False) for norm in (joint, apart)]
    np.testing.assert_array_equal(*same)


@pytest.mark.parametrize("name", SMALL)
def test_static_image_counts_once_in_the_running_variance(name, x64):
    """The authors' first convolution and norm see the image once, the other layers T times."""
    model = networks.build(name, 3, neurons.options("lif"), jnp.float64, **SMALL[name])
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1, 8, 8, 3)))
    variables = model.init(jax.random.key(0), x, timesteps=4)
    _, new = model.apply(variables, x, train=True, timesteps=4, mutable=["batch_stats"])
    first = {
        "plifnet_cifar10": ("conv0", "norm0", 1),
        "sew_resnet18": ("stem_conv", "stem_norm", 2),
    }
    conv, norm, stride = first[name]
    kernel = variables["params"][conv]["kernel"]
    pad = kernel.shape[0] // 2
    current = jax.lax.conv_general_dilated(
        x[:, 0], kernel, (stride,) * 2, ((pad, pad),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    expected = 0.9 + 0.1 * np.var(current, (0, 1, 2), ddof=1)
    np.testing.assert_allclose(new["batch_stats"][norm]["var"], expected, rtol=1e-12)


def plifnet(**options):
    config = base()
    config.model = "plifnet_dvs"
    config.model_options.update(options)
    return config


def test_norm_per_step_of_an_older_run_stays_off(tmp_path):
    """A config.json without the option is of a run that took all timesteps together."""
    path = tmp_path / "config.json"
    settings.claim(tmp_path, plifnet())
    written = path.read_text(encoding="utf-8")
    assert settings.load(tmp_path).model_options.norm_per_step is True
    path.write_text(written.replace('"norm_per_step": true', ""), encoding="utf-8")
    assert settings.load(tmp_path).model_options.norm_per_step is False
    resumed = plifnet()
    settings.claim(tmp_path, resumed)
    assert resumed.model_options.norm_per_step is False
    with pytest.raises(settings.ConfigError, match="norm_per_step"):
        settings.claim(tmp_path, plifnet(norm_per_step=True))
    assert "norm_per_step" not in settings.to_json(base())["model_options"]


def test_norm_per_step_under_shard_map_normalises_each_part():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 5)), jnp.float32)
    one, zero = jnp.ones(5), jnp.zeros(5)
    norm = lambda x: norms.batch_norm_per_step(x, one, zero, (zero, one))  # noqa: E731
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,), devices=jax.devices()[:2])
    batch = PartitionSpec("data")
    y, running = jax.shard_map(norm, mesh=mesh, in_specs=batch, out_specs=batch)(x)
    parts = [norm(x[:2]), norm(x[2:])]
    np.testing.assert_allclose(y, jnp.concatenate([p[0] for p in parts]), rtol=1e-5, atol=1e-6)
    for i in range(2):
        expected = jnp.concatenate([p[1][i] for p in parts])
        np.testing.assert_allclose(running[i], expected, rtol=1e-5, atol=1e-6)

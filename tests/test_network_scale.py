"""The compared networks on eight devices, and lowered for others: only gradients travel."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from test_networks import FORMS, LIF, built
from train_steps import drawn

from dalif_jax import losses, training
from dalif_jax.data import sets
from dalif_jax.settings import config, recipes

TRAVELS = ("all-gather", "all-to-all", "collective-permute", "reduce-scatter")
ATTENTION = {"ta": {"reduction": 2}, "ma": {"time_reduction": 2, "channel_reduction": 2}}
SOME = [
    ("sew iand", "none"), ("7b", "none"), ("ds gesture", "none"), ("vggsnn", "none"),
    ("pfa's", "pfa"), ("plifnet", "asa"), ("three conv", "ta"),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in (("ms 104", "ma"), ("sts", "none"))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "attention"), SOME)
def test_on_eight_devices_only_gradients_and_statistics_travel(name, attention):
    network, keys, side = FORMS[name]
    keys = keys | {"attention": attention, "attention_options": ATTENTION.get(attention, {})}
    keys |= {"pool_attention": True} if attention == "pfa" else {}
    model, mesh = built(network, 5, keys | LIF), training.make_mesh()
    whole, sharded = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    x = jnp.zeros((16, 4, side, side, 2))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), x[:1]))
    labels = jnp.zeros(16, jnp.int32)

    def loss(params, stats, x, key):
        logits, new = model.apply(
            {"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"],
            rngs={"dropout": key},
        )  # fmt: skip
        return losses.rate_error(logits, labels).mean(), new

    step = jax.jit(
        jax.grad(loss, has_aux=True), in_shardings=(whole, whole, sharded, whole),
        out_shardings=whole,
    )  # fmt: skip
    given = variables["params"], variables["batch_stats"], x, jax.random.key(1)
    text = step.lower(*given).compile().as_text()
    assert "all-reduce" in text
    for travels in TRAVELS:
        assert travels not in text
    exported = jax.export.export(step, platforms=("cuda", "tpu"))(*given)
    assert exported.platforms == ("cuda", "tpu") and exported.nr_devices == 8


def of(*folders):
    paths = [path for folder in folders for path in sorted((recipes.FOLDER / folder).glob("*.py"))]
    return [path for path in paths if path.stem != "__init__"]


NEW = [*of("table2", "authors"), recipes.FOLDER / "table1" / "pfa_cifar10_r19.py"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NEW, ids=lambda path: path.stem)
def test_a_recipe_s_step_at_its_own_size(path):
    """Every recipe's own frames and T, an example on each of eight devices: a step is taken, only
    gradients and statistics travel, and it is lowered for a GPU and a TPU."""
    settings = recipes.runpy.run_path(str(path))["get_config"]()
    settings.batch_size = 8
    config.validate(settings, 8)
    spec = sets.spec(settings.dataset, settings.frame_size)
    program = training.make_program(settings, 2, training.make_mesh())
    draw = np.random.default_rng(0)
    if spec.events:
        # Of a set that is fed in slices, longer recordings than a slice.
        length = settings.timesteps + 3 * bool(settings.test_slices)
        images = draw.poisson(0.2, (8, length, *spec.shape)).astype(np.uint8)
    else:
        images = draw.integers(0, 256, (8, *spec.shape), np.uint8)
    labels = draw.integers(0, spec.classes, 8, np.int32)
    order = None if spec.streamed else np.arange(8, dtype=np.int32)[None].repeat(2, 0)
    state = drawn(jax.eval_shape(program.init), draw)
    given = state, images, labels, order
    exported = jax.export.export(program.train_step, platforms=("cuda", "tpu"))(*given)
    assert exported.nr_devices == 8
    compiled = program.train_step.lower(*given).compile()
    text = compiled.as_text()
    assert "all-reduce" in text
    for travels in TRAVELS:
        # Indices of examples at most, never what a network works on.
        for line in text.splitlines():
            assert f" {travels}(" not in line or "f32[" not in line.split(travels)[0], line
    # What convolutions lay out for themselves comes on top, several times as much.
    planned = 8 * compiled.memory_analysis().temp_size_in_bytes
    if planned > 0.1 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        pytest.skip(f"compiled, not run: eight examples take {planned / 2**30:.1f} GiB here")
    _, metrics = compiled(*given)
    assert np.isfinite(float(metrics["loss"])) and float(metrics["grad_norm"]) > 0

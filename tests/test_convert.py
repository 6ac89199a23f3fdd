"""Networks made of others: membrane norms folded away, rectified units made into Diet-SNN."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convert as command
from configs.base import get_config as base
from dalif_jax import networks, training
from dalif_jax.data import sets
from dalif_jax.exchange import card, convert, interchange
from dalif_jax.neurons import SpikingNeuron
from dalif_jax.settings import config


def settings_of(**keys):
    settings = base()
    settings.update({"model": "mini", "dataset": "digits", "augment": (), "dtype": "float64"})
    with settings.unlocked():
        settings.update(keys)
    return settings


def drawn(settings, scale=lambda rng, shape: rng.normal(0, 1.5, shape)):
    """(model, params, stats) away from where they start, NumPy."""
    model = training.build_model(settings)
    spec = sets.spec("digits")
    x = jnp.zeros((1, settings.timesteps, *spec.shape))
    variables = jax.device_get(jax.jit(lambda: model.init(jax.random.key(0), x, train=False))())
    rng = np.random.default_rng(0)

    def change(path, leaf):
        last = path[-1].key
        if last == "norm_scale":
            return scale(rng, leaf.shape)
        if last in ("norm_var", "var"):
            return rng.uniform(0.5, 2.0, leaf.shape)
        if last == "kernel":
            return 2 * leaf
        return leaf + 0.2 * rng.normal(size=leaf.shape)

    variables = jax.tree_util.tree_map_with_path(change, variables)
    return model, variables["params"], variables.get("batch_stats", {})


def run(model, params, stats, taps=("spikes",)):
    spec = sets.spec("digits")
    x = jnp.asarray(np.random.default_rng(1).normal(0, 1, (4, 6, *spec.shape)))
    variables = {"params": params, "batch_stats": stats}
    logits, found, _ = jax.jit(lambda x: networks.tapped(model, variables, x, taps, train=False))(x)
    return np.asarray(logits), {name: np.asarray(tap["spikes"]) for name, tap in found.items()}


@pytest.mark.parametrize("neuron", ["dalif", "lif"])
def test_folded_membrane_norms_fire_the_same_spikes(neuron, x64):
    """Scales of both signs; not one spike differs in float64."""
    settings = settings_of(neuron=neuron, membrane_bn=True, timesteps=6)
    model, params, stats = drawn(settings)
    logits, spikes = run(model, params, stats)
    new, params, stats = convert.fold_membrane_norms(settings, params, stats)
    config.validate(new)
    after = training.build_model(new)
    assert not [path for path in card.flat({**params, **stats}) if "/norm_" in path]
    same, folded = run(after, params, stats)
    np.testing.assert_allclose(same, logits, rtol=1e-12, atol=1e-12)
    fired = 0
    for name in spikes:
        np.testing.assert_array_equal(folded[name], spikes[name])
        fired += spikes[name].mean()
        assert (params_at(params, name)["sign"] < 0).any()
    assert 0.1 < fired / len(spikes) < 0.9
    # And as a graph, thresholds of negative channels among them.
    options = config.neuron_options(new)
    graph = interchange.to_nir(after, {"params": params, "batch_stats": stats}, options, (8, 8, 1))
    x = jnp.asarray(np.random.default_rng(1).normal(0, 1, (4, 6, 8, 8, 1)))
    given = interchange.run(graph, jnp.moveaxis(x, -1, 2))
    for name in spikes:
        got = np.moveaxis(np.asarray(given[name.replace("/", ".")]), 2, -1)
        np.testing.assert_array_equal(got, spikes[name])


def params_at(tree, name):
    for key in name.split("/"):
        tree = tree[key]
    return tree


def test_a_scale_of_zero_fires_always_or_never(x64):
    settings = settings_of(membrane_bn=True, threshold=0.5, timesteps=2)
    model, params, stats = drawn(settings, lambda rng, shape: np.zeros(shape))
    _, spikes = run(model, params, stats)
    new, params, stats = convert.fold_membrane_norms(settings, params, stats)
    _, folded = run(training.build_model(new), params, stats)
    for name in spikes:
        np.testing.assert_array_equal(folded[name], spikes[name])


def test_thresholds_of_diet_are_percentiles_of_currents(x64):
    """The first layer by hand; the second sees the first's spikes at its threshold."""
    settings = settings_of(neuron="relu", norm="none", timesteps=1, model="tiny")
    _, params, _ = drawn(settings)
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    new, converted, thresholds = convert.to_diet(
        settings, params, images, timesteps=5, percentile=99.0, scale=0.2, steps=7
    )
    spec = sets.spec("digits")
    x = training.prepare(jnp.asarray(images), spec, jnp.float64)
    model = training.build_model(settings)
    _, found, _ = networks.tapped(
        model, {"params": params, "batch_stats": {}}, x, ("current",), train=False
    )
    first = 0.2 * np.percentile(found["stem0_neuron"]["current"], 99.0)
    np.testing.assert_allclose(thresholds["stem0_neuron"], first, rtol=1e-12)
    assert new.timesteps == 5 and new.neuron == "diet" and min(thresholds.values()) > 0
    assert params_at(converted, "stem0_neuron")["leak"] == 1.0
    config.validate(new)
    stems = convert.to_diet(settings, params, images, timesteps=5, steps=3, only="stem")[2]
    np.testing.assert_allclose([v for k, v in stems.items() if k[:4] != "stem"], 0.4)


def test_element_wise_statistics_are_of_each_neuron(x64):
    """Against batch norm by hand at the first step, and through NIR: a threshold a neuron."""
    settings = settings_of(membrane_bn=True, membrane_bn_elementwise=True, timesteps=6)
    layer = SpikingNeuron(config.neuron_options(settings))
    x = jnp.asarray(np.random.default_rng(0).normal(1.0, 2.0, (16, 1, 4, 4, 3)))
    variables = layer.init(jax.random.key(0), x, True)
    assert variables["params"]["norm_scale"].shape == (4, 4, 3)
    spikes, new = layer.apply(variables, x, True, mutable=["batch_stats"])
    h = np.tanh(1.0) * np.asarray(x[:, 0])
    normed = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5)
    np.testing.assert_array_equal(spikes[:, 0], normed >= 1.0)
    np.testing.assert_allclose(new["batch_stats"]["norm_mean"], 0.1 * h.mean(0), atol=1e-12)
    model, params, stats = drawn(settings, lambda rng, shape: rng.uniform(1.0, 2.0, shape))
    _, found = run(model, params, stats)
    options = config.neuron_options(settings)
    graph = interchange.to_nir(model, {"params": params, "batch_stats": stats}, options, (8, 8, 1))
    x = jnp.asarray(np.random.default_rng(1).normal(0, 1, (4, 6, 8, 8, 1)))
    given = interchange.run(graph, jnp.moveaxis(x, -1, 2))
    for name, expected in found.items():
        got = np.moveaxis(np.asarray(given[name.replace("/", ".")]), 2, -1)
        np.testing.assert_array_equal(got, expected)
    with pytest.raises(config.ConfigError, match="a threshold for each neuron"):
        convert.fold_membrane_norms(settings, params, stats)


def test_what_cannot_be_converted_is_refused(x64):
    with pytest.raises(config.ConfigError, match="no norms on its membranes"):
        convert.fold_membrane_norms(settings_of(), {}, {})
    with pytest.raises(config.ConfigError, match="neuron=relu and norm=none"):
        convert.to_diet(settings_of(neuron="relu"), {}, None, timesteps=5)


@pytest.mark.slow
def test_both_by_the_command_line(tmp_path):
    """Train, convert, train on from the card."""

    def python(*words):
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    small = ["--config.model=tiny", "--config.epochs=3", "--config.warmup_epochs=0"]
    config_file = ["train.py", "--config", "configs/digits.py", *small]
    normed = tmp_path / "normed"
    python(*config_file, "--workdir", normed, "--config.membrane_bn=true")
    out = python(
        "convert.py", "--source", normed, "--to", "folded", "--export", tmp_path / "folded"
    )
    assert "spikes on the test set, layer by layer" in out or ": rounding" in out
    before = json.loads((normed / "eval.json").read_text())
    after = json.loads((tmp_path / "folded" / "eval.json").read_text())
    assert abs(before["accuracy"] - after["accuracy"]) < 0.01
    assert (tmp_path / "folded" / "network.nir").exists()
    card = (tmp_path / "folded" / "README.md").read_text()
    assert "| made by | convert.py --to folded |" in card and str(tmp_path) not in card
    assert "| seed | 3407 |" in card and "| training time | 0:" in card

    ann, adam = tmp_path / "ann", ["--config.optimizer=adam", "--config.learning_rate=0.003"]
    python(*config_file, "--workdir", ann, *adam, "--config.neuron=relu", "--config.norm=none",
           "--config.timesteps=1")  # fmt: skip
    snn = tmp_path / "snn"
    python("convert.py", "--source", ann, "--to", "diet", "--timesteps", "4", "--export", snn)
    out = python(*config_file, "--workdir", tmp_path / "on", *adam, "--config.neuron=diet",
                 "--config.norm=none", f"--config.init_from={snn}")  # fmt: skip
    assert "nothing new" in out or "taken" in out


def test_arrays_become_trees():
    arrays = {"params/a/kernel": 1, "params/a/bias": 2, "batch_stats/b/c/mean": 3}
    assert command.nested(arrays) == ({"a": {"kernel": 1, "bias": 2}}, {"b": {"c": {"mean": 3}}})

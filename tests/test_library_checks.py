"""The library refuses what would compute nonsense, with one clear error."""

import contextlib
import importlib
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import test_layers

import dalif_jax as dj
from dalif_jax import neurons

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]


def logits(x, **keys):
    model = dj.build("tiny", 10)
    return jax.eval_shape(lambda k: model.init_with_output(k, x, **keys)[0], jax.random.key(0))


@pytest.mark.parametrize(
    ("shape", "keys", "message"),
    [
        ((2, 16, 16, 3), {}, "with a time axis"),
        ((2, 4, 3, 16, 16), {}, "channels first"),
        ((2, 3, 16, 16, 3), {"timesteps": 4}, "timesteps=4"),
        ((2, 16), {}, "expected"),
    ],
)
def test_network_refuses_a_wrong_input(shape, keys, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        logits(jnp.zeros(shape), **keys)


def test_network_accepts_one_timestep_shown_four_times():
    assert logits(jnp.zeros((2, 1, 8, 8, 3)), timesteps=4).shape == (2, 4, 10)


def test_network_refuses_an_image_that_its_pools_empty():
    model = dj.build("vgg11", 10)
    with pytest.raises(ValueError, match="do not fit"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 8, 8, 3)))


def test_train_without_mutable_statistics_is_refused():
    model, x = dj.build("tiny", 10), jnp.zeros((2, 2, 8, 8, 3))
    variables = model.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="mutable"):
        model.apply(variables, x, train=True)
    with pytest.raises(ValueError, match="'spike'; known: current, spikes"):
        dj.tapped(model, variables, x, ("spike",))


@pytest.mark.parametrize(
    "options", [{"threshold": v} for v in (0.0, -1.0, float("nan"), "1")]
    + [{"surrogate_width": v} for v in (0.0, -1.0)] + [{"surrogate_width_end": 0.0}],
)  # fmt: skip
def test_neuron_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        dj.neuron("dalif", **options)


@pytest.mark.parametrize("keys", [{"classes": 0}, {"classes": 2.5}, {"dtype": "int8"}])
def test_build_refuses_options_out_of_range(keys):
    with pytest.raises(ValueError, match=next(iter(keys))):
        dj.build("tiny", **({"classes": 10} | keys))


def test_simulate_refuses_unknown_numbers():
    x = jnp.zeros((1, 2, 3))
    with pytest.raises(ValueError, match="has the numbers a, b, but params has a, c"):
        dj.simulate(dj.neuron("dalif"), {"a": 1.0, "c": 1.0}, x)


def test_step_that_swaps_state_and_spike_is_refused():
    kind = neurons.NEURONS["alif"]
    swapped = kind.__class__(lambda *a: kind.step(*a)[::-1], kind.options, state=kind.state)
    neurons.NEURONS["swapped"] = swapped
    try:
        layer = neurons.SpikingNeuron(neurons.options("swapped"))
        with pytest.raises(ValueError, match=r"expected \(state, spike\)"):
            layer.init(jax.random.key(0), jnp.zeros((1, 2, 3)), False)
    finally:
        del neurons.NEURONS["swapped"]


@pytest.mark.parametrize("name", ["losses", "networks", "neurons", "norms", "surrogates"])
def test_subpackages_are_attributes_of_the_package(name):
    assert dj.__getattr__(name) is importlib.import_module(f"dalif_jax.{name}")


# The extras with which the files of a subpackage, or one file, are used.
USED_WITH = {
    "data": ("data",), "data.events": ("events",), "data.feed": ("data", "train"),
    "file_lock": ("train",), "exchange": ("exchange", "hub"), "analysis": ("train",),
    "runs": ("train",),
}  # fmt: skip


def distributions(requirements):
    """Names of what pip installs for requirements, with all that those need."""
    names, waiting = set(), list(requirements)
    while waiting:
        name = re.match(r"[\w.-]+", waiting.pop())[0].lower().replace("_", "-")
        if name not in names:
            names.add(name)
            with contextlib.suppress(metadata.PackageNotFoundError):
                needs = metadata.requires(name) or ()
                waiting += [need for need in needs if "extra ==" not in need]
    return names


def test_every_import_is_installed_by_the_extra_of_its_files():
    providers, checked = metadata.packages_distributions(), 0
    for name, path in test_layers.FILES.items():
        place = next((p for p in (name, name.rpartition(".")[0], name.split(".")[0])
                      if p in USED_WITH), "")  # fmt: skip
        extras = PROJECT["optional-dependencies"]
        given = [r for extra in USED_WITH.get(place, ()) for r in extras[extra]]
        installed = distributions(PROJECT["dependencies"] + given)
        for library in {imported.split(".")[0] for imported in test_layers.imports(path)}:
            if library not in sys.stdlib_module_names and library != "dalif_jax":
                sources = {source.lower().replace("_", "-") for source in providers[library]}
                assert sources & installed, f"{name} imports {library}; {place} installs it nowhere"
                checked += 1
    assert checked > 100


@pytest.mark.parametrize("extra", ["data", "events", "train"])
def test_extra_installs_filelock(extra):
    """Datasets, caches of event frames and runs are locked."""
    assert "filelock" in distributions(PROJECT["optional-dependencies"][extra])

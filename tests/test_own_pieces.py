"""Pieces of one's own, from one file outside the package: trained, streamed and drawn by name."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# All five at once; everything of theirs is in this recipe.
RECIPE = """
from dataclasses import dataclass
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from configs import digits
from dalif_jax import attention, losses, networks, neurons, norms, surrogates


@dataclass(frozen=True)
class Held(neurons.Options):
    hold: int = 2  # timesteps of rest after a spike


class State(NamedTuple):
    h: jax.Array
    rest: jax.Array


def step(options, params, state, x):
    resting = state.rest > 0
    h = jnp.where(resting, 0.0, jax.nn.sigmoid(params["k"]) * state.h + x)
    s = neurons.fire(options, h - options.threshold)
    return State(h * (1 - s), jnp.where(s > 0, float(options.hold), state.rest - 1.0)), s


neurons.add("held", neurons.Neuron(
    step, Held, lambda options: {"k": neurons.Number(0.0, ("channel",))},
    state=lambda options, x: State(neurons.zeros(x), neurons.zeros(x)),
    membrane=lambda options, params, state: (state.h, options.threshold),
    shown=lambda options, params: {"keep": jax.nn.sigmoid(params["k"])},
    meanings={"keep": "of the membrane"},
    constrain=lambda params: {"k": jnp.clip(params["k"], -0.001, 0.001)},
))

# Narrower the longer it is trained.
surrogates.add("narrowing", surrogates.Surrogate(surrogates.triangle, lambda w, at: w * (1.5 - at)))


@dataclass(frozen=True)
class Pulled(losses.Options):
    pull: float = 0.1


def pulled(options, logits, labels, taps, share):
    each = losses.time_averaged_cross_entropy(logits, labels, options.label_smoothing)
    far = sum(jnp.square(tap["mean"] - 0.5) for tap in taps.values())
    return each + options.pull * (1 - share) * far


losses.add("pulled", losses.Loss(pulled, Pulled, lambda seen: {"mean": seen.membrane.mean()}))


class Scale(nn.Module):
    dtype: type = jnp.float32
    first_scale: float = 1.0
    start: float = 1.0
    layer = "norm"

    @nn.compact
    def __call__(self, x, train, repeats=1):
        scale = self.param("scale", nn.initializers.constant(self.start), (x.shape[-1],))
        return (x * scale).astype(self.dtype)


def fold(module, params, stats):
    return params["scale"], 0.0 * params["scale"]


norms.add("scale", norms.Norm(Scale, fold))


class Gate(nn.Module):
    layer = "attention"

    @nn.compact
    def __call__(self, x, train):
        return x * nn.sigmoid(4 + self.param("gate", nn.initializers.zeros, (x.shape[-1],)))


attention.add("gate", Gate)


class Two(nn.Module):
    classes: int
    parts: networks.Parts
    width: int = 12

    @nn.compact
    def __call__(self, x, train=False, timesteps=None, share=1.0):
        conv, norm, neuron, dense = self.parts[:4]
        x = norm(name="norm0")(conv(self.width, 3, 1, name="conv0")(x), train)
        x = networks.show(x, timesteps or x.shape[1])
        x = neuron(name="neuron0")(x, train, share)
        x = norm(name="norm1")(conv(self.width, 3, 2, name="conv1")(x), train)
        x = neuron(name="neuron1")(x, train, share)
        return dense(self.classes, name="head")(networks.GlobalAverage(name="pool")(x))


networks.add("two", Two)


def get_config():
    config = digits.get_config()
    config.model, config.neuron, config.norm = "two", "held", "scale"
    config.attention, config.loss, config.surrogate = "gate", "pulled", "narrowing"
    config.timesteps, config.epochs, config.augment = 4, 2, ()
    config.neuron_options.hold = 1
    config.learning_rate, config.weight_decay = 0.05, 0.0
    return config
"""

STREAMED = """
import sys, importlib.util
import jax, jax.numpy as jnp, numpy as np
spec = importlib.util.spec_from_file_location("recipe", sys.argv[1])
recipe = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recipe)
from dalif_jax import networks, training
config = recipe.get_config()
model = training.build_model(config)
x = jax.random.normal(jax.random.key(0), (2, 4, 8, 8, 1)) * 2
variables = model.init(jax.random.key(1), x)
whole = model.apply(variables, x)
state, each = {}, []
for t in range(4):
    state, logits = networks.stream(model, variables, state, x[:, t])
    each.append(logits)
np.testing.assert_allclose(jnp.stack(each, 1), whole, atol=1e-5)
assert jnp.ptp(whole) > 0
"""


def run(*words, ok=True):
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "recipe.py"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def workdir(recipe):
    """A run of all five, trained and reported by the one command."""
    out = run("train.py", "--config", recipe, "--workdir", recipe.parent / "run",
              "--config.neuron_options.hold=2", "--config.loss_options.pull=0.2",
              "--config.model_options.width=10")  # fmt: skip
    assert "trained and measured" in out
    return recipe.parent / "run"


def test_a_neuron_a_loss_a_norm_an_attention_and_a_network_of_ones_own(workdir):
    values = json.loads((workdir / "eval.json").read_text())
    assert set(values["layers"]) == {"neuron0", "neuron1"}
    for row in values["layers"].values():
        assert len(row["keep"]) == 10 and "alpha" not in row
        assert 0 < row["firing_rate"] < 0.34  # two timesteps of rest after every spike
        assert all(abs(keep - 0.5) < 3e-4 for keep in row["keep"])  # constrained
    config = json.loads((workdir / "config.json").read_text())
    assert config["neuron_options"] == {"hold": 2} and config["loss_options"] == {"pull": 0.2}
    names = {path.name for path in workdir.iterdir()}
    assert {"numbers.png", "membranes_0.png", "report.html", "energy.png"} <= names
    assert "keep" in (workdir / "report.html").read_text()


@pytest.mark.slow
def test_it_continues_with_the_same_options_alone(recipe, workdir):
    same = ("--config.neuron_options.hold=2", "--config.loss_options.pull=0.2",
            "--config.model_options.width=10")  # fmt: skip
    start = ("train.py", "--config", recipe, "--workdir", workdir)
    assert "continuing" in run(*start, *same)
    assert "neuron_options: {'hold': 2} there, {'hold': 1} now" in run(*start, *same[1:], ok=False)


def test_it_keeps_its_share_of_warm_up_where_its_epochs_are_made_fewer(recipe):
    """The recipe, which adds its pieces once, is run once."""
    out = run("train.py", "--config", recipe, "--dry_run", "--config.epochs=1")
    assert "warmup_epochs=0.5: the recipe's 1 of 2 epochs" in out


def test_it_streams(recipe):
    run("-c", STREAMED, recipe)


REFUSED = {
    "neuron_options.hold=many": "neuron_options.hold='many': int expected",
    "neuron_options.hold=1.5": "neuron_options.hold=1.5: int expected",
    "neuron_options.threshold=2": "that is a key for all, --config.threshold=2",
    "loss_options.weight=2": "loss=pulled has no such option",
    "model_options.widht=2": "did you mean 'width'",
    "norm_options.begin=2": "norm=scale has no such option; its own are: start",
    "nueron_options.hold=2": "unknown config key 'nueron_options'",
    "neuron=hold": "unknown neuron 'hold'",
    "membrane_bn=True": "which neuron=held has not; it is for dalif",
    "neuron=glif": "neuron_options.hold: neuron=glif has no such option; its own are: tau, v",
}
ASKED = """
import ast, runpy, sys
from dalif_jax.settings import config, recipes
get_config = runpy.run_path(sys.argv[1])["get_config"]
for word in sys.argv[2:]:
    settings, (rest, own) = get_config(), recipes.own_words(["", f"--config.{word}"])
    try:
        if rest[1:]:
            key, _, value = word.partition("=")
            settings[key] = True if value == "True" else value
        recipes.set_own(settings, own)
        config.validate(settings)
        print("taken")
    except config.ConfigError as error:
        print(str(error).replace("\\n", " "))
"""


def test_what_a_piece_is_not_told_is_refused_before_anything_else(recipe):
    lines = run("-c", ASKED, recipe, *REFUSED).splitlines()
    assert len(lines) == len(REFUSED)
    for word, line in zip(REFUSED, lines, strict=True):
        assert REFUSED[word] in line, word
    out = run(
        "train.py", "--config", recipe, "--dry_run", "--config.neuron_options.hodl=2", ok=False
    )
    (line,) = (line for line in out.splitlines() if line.startswith("error: "))
    assert "neuron=held has no such option (did you mean 'hold'?); its own are: hold" in line
    assert "Traceback" not in out


def test_a_piece_is_taken_out_with_its_file_and_its_line(tmp_path):
    """All neurons but DA-LIF, one of the two families of networks: the rest runs without them."""
    shutil.copytree(ROOT / "dalif_jax", tmp_path / "dalif_jax")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copy(ROOT / "train.py", tmp_path)
    files = (tmp_path / "dalif_jax" / "neurons").glob("*.py")
    kept = {"__init__", "dalif", "layer", "linear", "piece", "table"}
    gone = {"neurons": sorted({file.stem for file in files} - kept), "networks": ("vgg",)}
    for room, names in gone.items():
        table = tmp_path / "dalif_jax" / room / "table.py"
        text = table.read_text()
        for name in names:
            (tmp_path / "dalif_jax" / room / f"{name}.py").unlink()
            text = re.sub(rf'\n    "\w+": {name}\..*', "", text)  # its lines of the table
            text = re.sub(rf"(?m)^    {name},\n", "", text)  # and its import
            text = re.sub(rf"(?m)^(from .* import\b.*?),? {name}\b", r"\1", text)
        text = re.sub(r"(?m)^(from .* import),", r"\1", text)
        assert not any(re.search(rf"\b{name}\.", text) for name in names)
        table.write_text(text)
    done = subprocess.run(
        [sys.executable, "train.py", "--config", "configs/digits.py", "--workdir", "run",
         "--config.model=tiny", "--dry_run"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "parameters: " in done.stdout

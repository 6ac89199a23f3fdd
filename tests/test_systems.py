"""The compared systems as recipes: their parameters, any pieces together, groups of parameters."""

import random
import re
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict
from train_steps import drawn

from ablations.system_table import parameters
from configs.base import get_config as base
from configs.systems import SYSTEMS, get_config
from dalif_jax import losses, neurons, norms, training
from dalif_jax.data import sets
from dalif_jax.exchange import card
from dalif_jax.runs import init_from
from dalif_jax.settings import config, recipes
from dalif_jax.surrogates import SURROGATES

TABLE1 = sorted((recipes.FOLDER / "table1").glob("[a-z]*.py"))
# By the papers' public code, or counted from it; the networks without neurons' numbers are MPBN's.
PARAMETERS = {
    "glif_cifar10_r19": 12_749_824, "glif_cifar100_r19": 12_667_392,
    "tet_cifar10_r19": 12_630_858, "tet_cifar100_r19": 12_653_988,
    "diet_cifar10_r20": 11_253_478, "diet_cifar100_r20": 11_437_798,
}  # fmt: skip
EXTRA = {"lsg": 17, "imlif": 3 * 17, "mpbn": 2 * 4480, "recdis": 0, "im": 0}


def recipe(path):
    return runpy.run_path(path)["get_config"]()


@pytest.mark.parametrize("path", TABLE1, ids=lambda path: path.stem)
def test_a_row_of_table_1(path):
    """A recipe that is valid, with the parameters of its reference, and its own neuron."""
    settings = recipe(path)
    config.validate(settings)
    assert not list(config.without_effect(settings, "gpu"))
    system, dataset, _ = path.stem.split("_")
    assert settings.dataset == dataset
    count = parameters(settings)
    if path.stem in PARAMETERS:
        assert count == PARAMETERS[path.stem]
    elif settings.model == "resnet19":
        plain = base()
        plain.update({"model": "resnet19", "dataset": dataset, "neuron": "lif"})
        assert count == parameters(plain) + EXTRA[system]
    text = path.read_text()
    assert f"configs/table1/{path.name}" in text and "Published: " in text
    stand_in = system in ("recdis", "imlif")
    assert ("stand-in" in text.lower()) == stand_in


def test_glif_at_two_timesteps_has_fewer_gains():
    settings = recipe(recipes.FOLDER / "table1" / "glif_cifar10_r19.py")
    settings.timesteps = 2
    assert parameters(settings) == 12_749_824 - 2 * 4480


def test_the_heads_of_tdbn_s_resnet_19():
    for classes, count in ((10, 12_697_994), (100, 12_721_124)):
        settings = base()
        settings.update({"model": "resnet19", "dataset": f"cifar{classes}", "neuron": "lif"})
        settings.model_options.hidden = 256
        assert parameters(settings) == count


def test_every_system_is_a_recipe():
    for name in SYSTEMS:
        config.validate(get_config(name))
    with pytest.raises(ValueError, match=r"no system 'x'; known: dalif, tdbn"):
        get_config("x")


# ---- What cannot be, in the words of the piece.

REFUSED = [
    ({"neuron": "plif", "neuron_options": {"tau": 0.5}}, "tau=0.5 must be above 1"),
    ({"neuron": "klif", "neuron_options": {"tau": 1.0}}, "tau=1.0 must be above 1"),
    ({"neuron": "lsg", "neuron_options": {"start": 1.0}}, "start=1.0 must be above 0 and below 1"),
    ({"neuron": "ltmd", "neuron_options": {"decay": 1.5}}, "decay=1.5 must be at least 0"),
    ({"neuron": "mlf", "neuron_options": {"thresholds": (2.0, 1.0)}}, "must be above 0 and rise"),
    ({"neuron": "mlf", "neuron_options": {"thresholds": 1.0}}, "thresholds=1.0: tuple expected"),
    ({"neuron": "bdett", "neuron_options": {"psi": 0.0}}, "psi=0.0 must be above 0"),
    ({"neuron": "imlif", "neuron_options": {"window": -1}}, "window=-1 must be at least 0"),
    ({"neuron": "liaf", "neuron_options": {"output": "x"}}, "known: membrane, above"),
    ({"neuron": "glif", "neuron_options": {"v": 1.0}}, "must be above 0 and below 1"),
    ({"neuron": "diet"}, "norm=batch with neuron=diet: Diet-SNN has none"),
    ({"neuron": "glif", "membrane_bn": True}, "membrane_bn needs a hard reset at a fixed"),
    ({"loss": "im", "neuron": "relu"}, "loss=im is of membranes, and neuron=relu has none"),
    ({"loss": "ltmd"}, "loss=ltmd compares two answers from two dropout masks"),
    ({"loss": "im", "loss_options": {"form": "x"}}, "known: paper, code"),
    ({"loss": "recdis", "loss_options": {"weight": -1.0}}, "weight=-1.0 must not be negative"),
    ({"norm": "tdbn", "norm_options": {"thresholds": 1.0}}, "its own are: identity"),
    ({"norm": "tdbn", "norm_options": {"threshold": 1.0}}, "--config.threshold=1.0"),
    ({"surrogate_width_end": 0.0}, "surrogate_width_end=0.0 must be above 0"),
    ({"optimizer": "rmsprop"}, "optimizer"),
    ({"schedule": "cosine_past_end"}, "needs schedule_epochs"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "words"), REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_compiled(keys, words):
    settings = base()
    settings.update({"model": "tiny", "dataset": "digits", "augment": (), "epochs": 2})
    with settings.unlocked():
        settings.update({k: ConfigDict(v) if isinstance(v, dict) else v for k, v in keys.items()})
    with pytest.raises(config.ConfigError, match=re.escape(words)):
        config.validate(settings)


def test_glif_runs_the_timesteps_that_it_has_gains_for():
    layer = neurons.SpikingNeuron(neurons.options("glif"))
    variables = layer.init(jax.random.key(0), jnp.zeros((1, 4, 3)), False)
    with pytest.raises(ValueError, match="a number for each of 4 timesteps and was given 2"):
        layer.apply(variables, jnp.zeros((1, 2, 3)), False)


@pytest.mark.parametrize("neuron", ["lif", "plif", "glif"])
def test_time_inheritance(neuron):
    """Weights of a run at T = 2 go on at T = 4, whole; GLIF's gains of a timestep begin anew."""

    def shapes(timesteps):
        settings = base()
        settings.update({"model": "tiny", "dataset": "digits", "neuron": neuron})
        settings.timesteps = timesteps
        program = training.make_program(settings, 1, training.make_mesh(jax.devices()[:1]))
        state = jax.eval_shape(program.init)
        return {"params": state.params, "batch_stats": state.batch_stats}

    arrays = {name: np.zeros(*what) for name, what in card.flat_shapes(shapes(2)).items()}
    taken, lines = init_from.fit(init_from.Weights("a run", arrays), shapes(4))
    left = {name for name in card.flat_shapes(shapes(4)) if name not in taken}
    expected = {name for name in arrays if neuron == "glif" and name.endswith("/c")}
    assert left == expected and (not expected or "neuron/c" in "\n".join(lines))


# ---- Any pieces together.

OPTIONS = {
    "neuron": {
        "plif": {"tau": [1.5, 3.0]}, "klif": {"scale_reset": [True]}, "mlf": {
            "thresholds": [(0.5, 1.5), (0.6, 1.6, 2.6)]}, "imlif": {"window": [0, 2]},
        "glif": {"gate_rate": [0.1, 1.0]}, "alif": {"order": ["paper", "official"]},
        "liaf": {"output": ["membrane", "above"]},
    },
    "norm": {"tdbn": {"identity": [True, False], "epsilon_outside": [True, False]}},
    "loss": {"im": {"form": ["paper", "code"]}, "tet": {"weight": [0.05]}},
    "model": {"tiny": {"hidden": [0, 12], "hidden_neuron": [True, False],
                       "moderate_dropout": [0.0, 0.2], "dropout": [0.0, 0.2],
                       "flatten": [True, False], "integrate": [True, False]}},
}  # fmt: skip


def combination(seed):
    """Keys of a config, drawn from all there is."""
    draw = random.Random(seed)
    some = draw.choice
    keys = {
        "neuron": some(list(neurons.NEURONS)), "norm": some(list(norms.NORMS)),
        "loss": some(list(losses.LOSSES)), "surrogate": some(list(SURROGATES)),
        "model": "tiny", "dataset": some(["digits", "digits_dvs"]), "augment": (),
        "timesteps": some([1, 2, 3]), "dtype": some(["float32", "bfloat16", "float64"]),
        "membrane_bn": draw.random() < 0.15, "detach_reset": some([True, False]),
        "fused": some([True, True, False]), "per_channel": some([True, False]),
        "optimizer": some(["sgd", "adam", "adamw", "amsgrad"]), "batch_size": 8,
        "surrogate_width": some([0.5, 1.0]), "threshold": some([0.5, 1.0]), "epochs": 2,
        "surrogate_width_end": some([None, None, 0.3]), "accumulate": some([1, 1, 2]),
        "mixup": some([0.0, 0.0, 0.5]), "learning_rate": 0.01, "frame_size": 0,
    }  # fmt: skip
    if keys["dataset"] == "digits_dvs":
        keys["frame_size"] = 8
    for piece, known in OPTIONS.items():
        own = known.get(keys[piece], {})
        keys[f"{piece}_options"] = {k: some(v) for k, v in own.items() if draw.random() < 0.5}
    return keys


def step_or_refusal(keys):
    """The metrics and parameters after one step; or the reason why not."""
    settings = base()
    with settings.unlocked():
        settings.update({k: ConfigDict(v) if isinstance(v, dict) else v for k, v in keys.items()})
    try:
        config.validate(settings)
    except config.ConfigError as error:
        return str(error), None
    with jax.enable_x64(keys["dtype"] == "float64"):
        program = training.make_program(settings, 2, training.make_mesh(jax.devices()[:1]))
        spec = sets.spec(settings.dataset, settings.frame_size)
        rng = np.random.default_rng(0)
        shape = (settings.timesteps, *spec.shape) if spec.events else spec.shape
        images = rng.integers(0, 8 if spec.events else 256, (8, *shape), np.uint8)
        labels = rng.integers(0, spec.classes, 8, np.int32)
        state = drawn(jax.eval_shape(program.init), rng)
        order = jnp.arange(8, dtype=jnp.int32)[None].repeat(2, 0)
        state, metrics = program.train_step(state, images, labels, order)
        return None, jax.device_get((metrics, state.params))


def check(seed):
    keys = combination(seed)
    why, result = step_or_refusal(keys)
    if why:
        assert len(why) > 20, (seed, why)
        return False
    for leaf in jax.tree.leaves(result):
        assert np.isfinite(np.asarray(leaf, np.float64)).all(), (seed, keys)
    return True


def test_some_combinations_train_or_are_refused_with_a_reason():
    done = [check(seed) for seed in (*range(5), 6)]
    assert any(done) and not all(done)


@pytest.mark.slow
def test_many_combinations_train_or_are_refused_with_a_reason():
    done = [check(seed) for seed in range(6, 226)]
    assert sum(done) > 60 and not all(done)


# ---- Groups of parameters, optimizers, schedules.


def one_step(**keys):
    """{path: change by a step on gradients of 1} of a tiny network's parameters, all of them 1."""
    settings = base()
    settings.update({"model": "tiny", "dataset": "digits", "learning_rate": 0.1, "epochs": 10})
    settings.update(keys)
    program = training.make_program(settings, 5, training.make_mesh(jax.devices()[:1]))
    shapes = jax.eval_shape(program.init)
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes.params)
    updates, _ = program.optimizer.update(params, program.optimizer.init(params), params)
    flat = jax.tree_util.tree_leaves_with_path(optax.apply_updates(params, updates))
    return {"/".join(k.key for k in path): float(np.ravel(leaf)[0]) - 1.0 for path, leaf in flat}


def test_glif_s_gates_learn_at_a_tenth():
    change = one_step(neuron="glif", weight_decay=0.5)
    assert change["stem0_neuron/gate_a"] == pytest.approx(-0.01)
    assert change["stem0_neuron/tau"] == pytest.approx(-0.1)
    assert change["stem0_conv/kernel"] == pytest.approx(-0.15)
    options = ConfigDict({"gate_rate": 1.0})
    change = one_step(neuron="glif", neuron_options=options)
    assert change["stem0_neuron/gate_a"] == pytest.approx(-0.1)


def test_weight_decay_is_on_what_says_so():
    change = one_step(neuron="ltmd", weight_decay=0.5)
    assert change["stem0_neuron/w"] == pytest.approx(-0.15)
    assert change["stem0_norm/scale"] == pytest.approx(-0.1)
    assert one_step(neuron="plif", weight_decay=0.5)["stem0_neuron/w"] == pytest.approx(-0.1)


@pytest.mark.parametrize("name", ["adam", "amsgrad", "adamw"])
def test_optimizers_of_adam_s_kind(name):
    """The first step is the learning rate, whatever the gradient; adamw's decay comes on top."""
    change = one_step(optimizer=name, weight_decay=0.5)
    assert change["stem0_norm/scale"] == pytest.approx(-0.1, rel=1e-5)
    decay = 0.05 if name == "adamw" else 0.0
    assert change["stem0_conv/kernel"] == pytest.approx(-0.1 - decay, rel=1e-5)


def schedule_of(**keys):
    settings = base()
    settings.update({"learning_rate": 0.1, "epochs": 200} | keys)
    return training.make_schedule(settings, 10)


def test_a_rate_that_falls_every_so_many_epochs():
    rate = schedule_of(schedule="step", schedule_epochs=40)
    for epoch, value in ((0, 0.1), (39.9, 0.1), (40, 0.01), (80, 0.001)):
        assert float(rate(round(10 * epoch))) == pytest.approx(value)
    warm = schedule_of(schedule="step", schedule_epochs=40, warmup_epochs=5.0)
    assert float(warm(25)) == pytest.approx(0.05) and float(warm(400)) == pytest.approx(0.01)


def test_a_cosine_that_is_followed_past_its_end():
    """As PyTorch's CosineAnnealingLR stepped on: back at the first rate after two periods."""
    rate = schedule_of(schedule="cosine_past_end", schedule_epochs=64)
    for epoch, value in ((0, 0.1), (32, 0.05), (64, 0.0), (96, 0.05), (128, 0.1)):
        assert float(rate(10 * epoch)) == pytest.approx(value, abs=1e-7)
    with pytest.raises(config.ConfigError, match="schedule=step needs schedule_epochs"):
        settings = base()
        settings.schedule = "step"
        config.validate(settings)

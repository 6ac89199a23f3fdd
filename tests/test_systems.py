"""The compared systems as recipes: their parameters, any pieces together, groups of parameters."""

import re
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from ablations.system_table import parameters
from configs import event_systems
from configs.base import get_config as base
from configs.systems import SYSTEMS, get_config
from dalif_jax import neurons, training
from dalif_jax.exchange import card
from dalif_jax.runs import init_from
from dalif_jax.settings import config, recipes

ROWS = [
    path for folder in ("table1", "table2", "authors")
    for path in sorted((recipes.FOLDER / folder).glob("[a-z]*.py"))
]  # fmt: skip
# By the papers' public code, or counted from it; the networks without neurons' numbers are MPBN's.
PARAMETERS = {
    "glif_cifar10_r19": 12_749_824, "glif_cifar100_r19": 12_667_392,
    "tet_cifar10_r19": 12_630_858, "tet_cifar100_r19": 12_653_988,
    "diet_cifar10_r20": 11_253_478, "diet_cifar100_r20": 11_437_798,
    "sew_gesture_7b": 130_426, "sew_cifar10dvs_widenet": 1_192_218,
    "sew_imagenet_r18": 11_689_512, "sew_imagenet_r34": 21_797_672,
    "glif_cifar10dvs_widenet": 1_236_298, "plif_gesture": 1_698_311, "plif_cifar10dvs": 17_427_718,
    "plif_cifar10": 36_718_344, "asa_gesture_plifnet": 1_701_123, "asa_gesture": 2_329_045,
    "ta_gesture": 2_326_180, "liaf_ta_gesture": 2_326_180, "ma_gesture": 2_340_535,
    "ta_cifar10dvs": 2_098_282, "tet_cifar10dvs_vggsnn": 9_271_498, "pfa_cifar10dvs": 9_284_986,
    "stsa_cifar10dvs": 1_572_488, "stsa_gesture": 1_567_345, "tdbn_gesture_r17": 11_228_427,
    "mlf_cifar10_ds20": 4_327_754, "mlf_gesture_ds20": 272_395, "mlf_cifar10dvs_ds14": 696_330,
    "ms_imagenet_r18": 11_693_736, "ms_imagenet_r34": 21_801_896, "ms_imagenet_r104": 77_350_504,
    "attms_imagenet_r18": 11_867_960,
}  # fmt: skip
# Of a ResNet-19's neurons and membrane norms; PFA's in front of three stages, T = 4, rank 8.
PFA = sum(8 + (9 * 4 * 8 + 8) + (c * 8 + 8) + (4 * 8 + 8) for c in (128, 128, 256))
EXTRA = {"lsg": 17, "imlif": 3 * 17, "mpbn": 2 * 4480, "recdis": 0, "im": 0, "pfa": PFA}


def recipe(path):
    return runpy.run_path(path)["get_config"]()


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.stem)
def test_a_recipe_of_a_compared_system(path):
    """Valid, with the parameters of its reference; any neuron goes into its network."""
    settings = recipe(path)
    config.validate(settings)
    assert not list(config.without_effect(settings, "gpu"))
    system, dataset = path.stem.removeprefix("liaf_").split("_")[:2]
    assert settings.dataset.removeprefix("dvs") == dataset
    count = parameters(settings)
    if path.stem in PARAMETERS:
        assert count == PARAMETERS[path.stem]
    elif settings.model == "resnet19":
        plain = base()
        plain.update({"model": "resnet19", "dataset": settings.dataset, "neuron": "lif"})
        assert count == parameters(plain) + EXTRA[system]
    inside = runpy.run_path(path)["get_config"]("dalif")
    config.validate(inside)
    assert (inside.neuron, inside.threshold, inside.alpha) == ("dalif", 1.0, None)
    assert (inside.model, inside.epochs) == (settings.model, settings.epochs)
    text = path.read_text()
    assert f"configs/{path.parent.name}/{path.name}" in text and "Published: " in text
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


def test_a_neuron_inside_a_recipe_is_one_that_is_there():
    with pytest.raises(ValueError, match="no neuron 'x'; known: dalif, lif"):
        runpy.run_path(ROWS[0])["get_config"]("x")


def test_every_network_on_events_is_a_recipe():
    for name in event_systems.SYSTEMS:
        config.validate(event_systems.get_config(name))
    with pytest.raises(ValueError, match=r"no system 'x'; known: sew_7b, "):
        event_systems.get_config("x")


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
    ({"model": "net_7b", "model_options": {"join": "xor"}}, "unknown join 'xor'; known: add, and"),
    ({"model": "net_7b", "model_options": {"pool": "min"}}, "unknown pool 'min'; known: max"),
    ({"model": "tiny", "model_options": {"dropout": 1.0}}, "dropout=1.0 must be at least 0 and"),
    ({"model": "plifnet_dvs", "model_options": {"dropout": (0.5, -0.1)}}, "(0.5, -0.1) must be"),
    ({"model": "plifnet_dvs", "model_options": {"dropout": (0.5,)}}, "two rates expected"),
    ({"model": "sts_transformer", "model_options": {"heads": 3}}, "heads=3 must divide the 256"),
    ({"model": "sts_transformer", "model_options": {"depth": 0}}, "depth=0 must be at least 1"),
    ({"attention": "ma", "attention_options": {"axes": "X"}}, "attention=ma: attention_options"),
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


def test_muon_turns_the_kernels_momentum_orthogonal():
    """All directions of a kernel's matrix [k k C, O] move nearly as far (five iterations of
    Newton and Schulz leave 0.7 to 1.2), 0.2 sqrt(longer side) times the rate; all else as Adam."""
    settings = base()
    settings.update({"optimizer": "muon", "weight_decay": 0.5, "learning_rate": 0.1})
    optimizer = training.make_optimizer(settings, lambda step: 0.1)
    draw = np.random.default_rng(0)
    shapes = {
        "conv": {"kernel": (3, 3, 4, 8)}, "head": {"kernel": (8, 10)}, "norm": {"scale": (8,)}
    }  # fmt: skip
    params, grads = (
        {k: {n: draw.normal(size=s) for n, s in v.items()} for k, v in shapes.items()}
        for _ in range(2)
    )
    change, _ = optimizer.update(grads, optimizer.init(params), params)
    for name in ("conv", "head"):
        change[name]["kernel"] += 0.05 * params[name]["kernel"]  # weights alone decay
    directions = np.linalg.svd(change["conv"]["kernel"].reshape(36, 8), compute_uv=False)
    assert np.all((directions / (0.1 * 0.2 * 6) > 0.6) & (directions / (0.1 * 0.2 * 6) < 1.3))
    for layer, name in (("head", "kernel"), ("norm", "scale")):
        expected = -0.1 * np.sign(grads[layer][name])
        np.testing.assert_allclose(change[layer][name], expected, rtol=1e-3)


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

"""Any pieces together: drawn from all there is, a step is taken or refused with a reason."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from test_networks import FORMS
from train_steps import drawn

from configs.base import get_config as base
from dalif_jax import losses, networks, neurons, norms, training
from dalif_jax.data import sets
from dalif_jax.settings import config
from dalif_jax.surrogates import SURROGATES

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


ATTENTION = {
    "ta": {"reduction": [1, 2]}, "asa": {"both_sets": [True, False], "reduction": [1, 2]},
    "ma": {"axes": ["T", "CS", "TCS"], "time_reduction": [1, 2], "channel_reduction": [1, 2]},
    "pfa": {"rank": [1, 3], "learn_weights": [True, False]},
}  # fmt: skip


def combination(seed):
    """Keys of a config, drawn from all there is."""
    draw = random.Random(seed)
    some = draw.choice
    network, own, _ = some(list(FORMS.values())) if draw.random() < 0.6 else ("tiny", None, 8)
    keys = {
        "neuron": some(list(neurons.NEURONS)), "norm": some(list(norms.NORMS)),
        "loss": some(list(losses.LOSSES)), "surrogate": some(list(SURROGATES)),
        "model": network, "dataset": some(["digits", "digits_dvs"]), "augment": (),
        "attention": some(["none"] * 3 + list(ATTENTION)), "train_timesteps": some([0, 0, 0, 1]),
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
    for piece, known in (OPTIONS | {"attention": ATTENTION}).items():
        drawn_from = known.get(keys[piece], {})
        keys[f"{piece}_options"] = {
            k: some(v) for k, v in drawn_from.items() if draw.random() < 0.5
        }
    if own is not None:
        keys["model_options"] = dict(own)
        for place in ("stage_attention", "pool_attention"):
            if place in networks.own_options(network) and draw.random() < 0.5:
                keys["model_options"][place] = True
    if keys["attention"] == "ma" and keys["attention_options"].get("axes") != "CS":
        keys["attention_options"].setdefault("time_reduction", 1)
    if keys["attention"] == "ta":
        keys["attention_options"].setdefault("reduction", 1)
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


QUICK = (0, 1, 2, 6)  # one of them refused


def test_some_combinations_train_or_are_refused_with_a_reason():
    done = [check(seed) for seed in QUICK]
    assert any(done) and not all(done)


@pytest.mark.slow
def test_many_combinations_train_or_are_refused_with_a_reason():
    done, wrong = [], {}
    for seed in range(300):
        try:
            done.append(check(seed))
        except Exception as error:
            wrong[seed] = f"{type(error).__name__}: {error}"[:300]
    assert not wrong, wrong
    assert sum(done) > 100 and not all(done)

"""Accuracy by the mean answer to an image and its mirror image, beside the accuracy."""

import jax
import numpy as np
import pytest
from small_run import config_of

from dalif_jax import networks, training
from dalif_jax.data import sets
from dalif_jax.settings import config as configs


def counted(mirrored, images, labels):
    settings = config_of(mirrored_views=mirrored)
    program = training.make_program(settings, 1, training.make_mesh(jax.devices()[:1]))
    state = jax.device_get(program.init())
    valid = np.arange(len(labels)) < len(labels) - 3
    indices = np.arange(len(labels), dtype=np.int32)
    return program, state, valid, program.eval_step(state, images, labels, indices, valid)


def test_both_views_answer_together_and_nothing_else_changes():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 8, 8, 1), np.uint8)
    labels = rng.integers(0, 10, 40).astype(np.int32)
    program, state, valid, got = counted(True, images, labels)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    x = np.asarray(training.prepare(images, sets.spec("digits"), np.dtype("float32")))
    logits = [
        np.asarray(networks.tapped(program.model, variables, view, (), timesteps=2)[0]).mean(1)
        for view in (x, x[..., ::-1, :])
    ]
    answers = [values.argmax(-1) for values in (*logits, logits[0] + logits[1])]
    assert got["mirrored"] == (answers[2] == labels)[valid].sum()
    assert got["correct"] == (answers[0] == labels)[valid].sum()
    assert (answers[0] != answers[2]).any()  # the second view has a say
    plain = counted(False, images, labels)[3]
    assert "mirrored" not in plain
    jax.tree.map(np.testing.assert_array_equal, plain, {k: got[k] for k in plain})


@pytest.mark.parametrize(("dataset", "says"), [("digits", []), ("digits_dvs", ["recordings"])])
def test_recordings_are_not_mirrored_which_is_said(dataset, says):
    settings = config_of(dataset=dataset, mirrored_views=True, augment=())
    lines = [line for line in configs.without_effect(settings, "cpu") if "mirrored" in line]
    assert [word for word in says if word not in lines[0]] == [] and len(lines) == len(says)

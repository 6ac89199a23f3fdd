"""Augmentation of event frames against plain NumPy and SciPy; mixup in the train step."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from configs.base import get_config
from dalif_jax import losses, training
from dalif_jax.data.events import event_augment
from dalif_jax.data.events.event_augment import NDA, augment_events, nda, roll, warp
from dalif_jax.training.state import MIXUP


def draw(seed=0, shape=(3, 16, 12, 2)):
    return jnp.asarray(np.random.default_rng(seed).integers(0, 300, shape), jnp.uint16)


def many(operation, count=200):
    """[count, ...] results of operation(key) for as many keys."""
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.jit(jax.vmap(operation))(keys))


def test_roll_moves_all_frames_alike_and_reaches_every_shift():
    frames = draw()
    shifts = set()
    for moved in many(lambda key: roll(key, frames, 2)):
        fits = [
            (y, x)
            for y in range(-2, 3)
            for x in range(-2, 3)
            if (np.roll(frames, (y, x), (1, 2)) == moved).all()
        ]
        assert len(fits) == 1 and moved.dtype == frames.dtype
        shifts.add(fits[0])
    assert len(shifts) == 25


def test_flip_is_of_width_and_half_the_time():
    frames = draw()
    results = many(lambda key: augment_events(key, frames, ("flip",)))
    flipped = [(moved == np.asarray(frames)[:, :, ::-1]).all() for moved in results]
    for moved, whole in zip(results, flipped, strict=True):
        assert whole or (moved == np.asarray(frames)).all()
    assert 70 < sum(flipped) < 130


@pytest.mark.parametrize(
    "matrix",
    [
        [[1, 0, 3], [0, 1, -2]],
        [[1, 0.31, 0], [0, 1, 0]],
        [[np.cos(0.5), np.sin(0.5), 0], [-np.sin(0.5), np.cos(0.5), 0]],
    ],
)
def test_warp_is_scipys_nearest_pixel(matrix):
    frames = draw(shape=(2, 15, 15, 2))
    moved = np.asarray(warp(frames, jnp.asarray(matrix, jnp.float32)))
    (xx, xy, x0), (yx, yy, y0) = matrix
    inverse, centre = np.array([[yy, yx], [xy, xx]]), np.array([7.0, 7.0])
    offset = centre + np.array([y0, x0]) - inverse @ centre
    for t in range(2):
        for p in range(2):
            expected = scipy.ndimage.affine_transform(
                np.asarray(frames[t, :, :, p]).astype(float), inverse, offset, order=0, cval=0
            )
            # At the border SciPy asks whether the place itself is outside, here its pixel is asked.
            inner = slice(2, -2)
            same = moved[t, inner, inner, p] == expected[inner, inner]
            assert same.mean() > 0.98  # ties of rounding


def test_nda_draws_each_operation_and_one_for_all_frames():
    frames = jnp.broadcast_to(draw(shape=(1, 20, 20, 2)) + 1, (4, 20, 20, 2))
    results = many(lambda key: nda(key, frames, 6), 400)
    assert results.dtype == np.uint16
    # Frames that were alike stay alike.
    np.testing.assert_array_equal(results, np.repeat(results[:, :1], 4, 1))
    untouched = (results == np.asarray(frames)).all((1, 2, 3, 4))
    assert 50 < untouched.sum() < 115  # one of five, with shifts that round to none
    holes = [(r == 0) & (np.asarray(frames) != 0) for r in results]
    square = [h[0, :, :, 0].sum() <= 36 and ((r == frames) | h).all() and h.any()
              for h, r in zip(holes, results, strict=True)]  # fmt: skip
    assert 50 < sum(square) < 115
    assert len(NDA) == 5


def test_augmentation_of_an_example_depends_on_its_key_alone():
    batch = jnp.stack([draw(seed) for seed in range(4)])
    keys = jax.random.split(jax.random.key(1), 4)
    ops = ("nda", "flip", "roll")
    every = jax.vmap(functools.partial(augment_events, ops=ops, cutout_size=4))(keys, batch)
    for i in range(4):
        alone = augment_events(keys[i], batch[i], ops, cutout_size=4)
        np.testing.assert_array_equal(every[i], alone)
    with pytest.raises(ValueError, match="unknown augment 'cutout'; known: flip, roll, nda, crop"):
        augment_events(keys[0], batch[0], ("cutout",))


def program_of(devices=None, **keys):
    config = get_config()
    config.update({"model": "tiny", "dataset": "digits_dvs", "timesteps": 3, "batch_size": 8})
    config.augment = ()
    config.update(keys)
    return config, training.make_program(config, 1, training.make_mesh(devices))


def inputs():
    rng = np.random.default_rng(0)
    frames = jnp.asarray(rng.integers(0, 9, (8, 3, 16, 16, 2)), jnp.uint8)
    return frames, jnp.arange(8, dtype=jnp.int32), jnp.arange(8, dtype=jnp.int32)[None]


def test_frames_reach_the_network_as_the_counts_they_are():
    _, program = program_of()
    frames, labels, order = inputs()
    state = program.init()
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits, _ = program.model.apply(
        variables, frames.astype(jnp.float32), train=True, mutable=["batch_stats"]
    )
    expected = losses.time_averaged_cross_entropy(logits, labels).mean()
    _, metrics = program.train_step(state, frames, labels, order)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


def test_mixup_blends_neighbours_of_the_batch_and_their_losses():
    config, program = program_of(mixup=0.5)
    frames, labels, order = inputs()
    state = program.init()
    key = jax.random.fold_in(training.seed_key(config.seed, MIXUP), 0)
    share = np.asarray(jax.random.beta(key, 0.5, 0.5, (8,), jnp.float32))
    assert share.std() > 0.1
    blended = share[:, None, None, None, None] * frames + (
        1 - share[:, None, None, None, None]
    ) * jnp.roll(frames, -1, 0)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits, _ = program.model.apply(variables, blended, train=True, mutable=["batch_stats"])
    expected = np.mean(
        share * losses.time_averaged_cross_entropy(logits, labels)
        + (1 - share) * losses.time_averaged_cross_entropy(logits, jnp.roll(labels, -1))
    )
    _, metrics = program.train_step(state, frames, labels, order)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


def test_events_with_every_augmentation_are_the_same_on_one_and_eight_devices(x64):
    results = []
    for devices in (jax.devices()[:1], jax.devices()):
        _, program = program_of(
            devices, mixup=0.5, augment=("flip", "roll", "nda"), dtype="float64", cutout_size=4
        )
        frames, labels, order = inputs()
        text = program.train_step.lower(program.init(), frames, labels, order).compile().as_text()
        moved = re.findall(
            r"= \(?(\w+)\[[^=]* (?:all-gather|all-to-all|collective-permute)\(", text
        )
        assert set(moved) <= {"s32", "s64", "u32", "pred"}  # indices at most, never frames
        _, metrics = program.train_step(program.init(), frames, labels, order)
        results.append((float(metrics["loss"]), float(metrics["grad_norm"])))
    np.testing.assert_allclose(*results, rtol=1e-10)


def test_the_table_of_operations_is_the_order_of_application():
    assert list(event_augment.EVENT_AUGMENTS) == ["flip", "roll", "nda", "crop"]

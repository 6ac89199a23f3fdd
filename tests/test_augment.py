"""Crops, flips, holes and their order against hand-made truths."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import images

from dalif_jax.data import sets
from dalif_jax.data.augment import ALTERNATE, AUGMENTS, FILLS, augment, normalize
from dalif_jax.settings.config import base_config
from dalif_jax.training.batches import batches_of, inputs_of, prepare


def many(ops, count=2048, size=(32, 32), image=None, **settings):
    keys = jax.random.split(jax.random.key(3), count)
    image = images(*size)[0] if image is None else image
    run = jax.jit(jax.vmap(lambda key: augment(key, image, ops, **settings)))
    return image, np.asarray(run(keys))


@pytest.mark.parametrize(("border", "mode"), [("black", "constant"), ("reflect", "reflect")])
def test_crops_are_windows_of_the_padded_image_all_as_likely(border, mode):
    image, crops = many(("crop",), size=(24, 40), crop_padding=2, crop_border=border)
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode)
    windows = {
        padded[y : y + 24, x : x + 40].tobytes(): i for i, (y, x) in enumerate(np.ndindex(5, 5))
    }
    counts = np.bincount([windows[crop.tobytes()] for crop in crops], minlength=25)
    assert np.abs(counts - 2048 / 25).max() < 5 * np.sqrt(2048 / 25)


def test_flips_half():
    image, flips = many(("flip",))
    mirrored = (flips == image[:, ::-1]).all((1, 2, 3))
    assert ((flips == image).all((1, 2, 3)) | mirrored).all()
    assert abs(mirrored.mean() - 0.5) < 4.5 * 0.5 / np.sqrt(2048)


def test_alternate_flips_show_both_in_two_epochs():
    """Through the batches of a step: the same images in epochs 0, 1 and 2, wherever they stand."""
    config = base_config()
    config.augment, config.batch_size = (ALTERNATE,), 200
    batches = batches_of(config, sets.SPECS["cifar10"], 10, None)
    pixels = jnp.asarray(np.random.default_rng(0).integers(0, 256, (300, 8, 6, 3)), jnp.uint8)
    place, rows = jnp.arange(200), jnp.arange(50, 250)
    shown = jax.jit(lambda step, rows: inputs_of(batches, step, pixels, place, rows)[:, 0])
    first = np.asarray(shown(3, rows))
    plain = jax.jit(lambda pixels: prepare(pixels, batches.spec, batches.dtype)[:, 0])
    as_it_is = np.asarray(plain(pixels[50:250]))
    mirrored = (first == as_it_is[:, :, ::-1]).all((1, 2, 3))
    assert (mirrored ^ (first == as_it_is).all((1, 2, 3))).all()
    assert abs(mirrored.mean() - 0.5) < 4.5 * 0.5 / np.sqrt(200)
    np.testing.assert_array_equal(shown(12, rows), first[:, :, ::-1])
    np.testing.assert_array_equal(shown(25, rows[::-1]), first[::-1])
    config.seed += 1
    other = batches_of(config, sets.SPECS["cifar10"], 10, None)
    assert (np.asarray(inputs_of(other, 3, pixels, place, rows)[:, 0]) != first).any()


@pytest.mark.parametrize("size", [8, 5])
def test_cutout_is_the_public_codes(size):
    """Its square for every centre, by its own arithmetic; all centres as likely."""
    height, width, half = 12, 20, size // 2
    image, cut = many(("cutout",), image=np.full((12, 20, 3), 9, np.uint8), cutout_size=size)
    shapes = collections.Counter()
    for y, x in np.ndindex(height, width):
        expected = image.copy()
        y1, y2 = np.clip([y - half, y + half], 0, height)
        x1, x2 = np.clip([x - half, x + half], 0, width)
        expected[y1:y2, x1:x2] = 0
        shapes[expected.tobytes()] += 1
    seen = collections.Counter(im.tobytes() for im in cut)
    assert set(seen) <= set(shapes)
    for shape, centres in shapes.items():
        mean = 2048 * centres / (height * width)
        assert abs(seen[shape] - mean) < 5 * np.sqrt(mean) + 3
    # An even square in the open removes size^2 pixels.
    assert (cut[..., 0] == 0).sum((1, 2)).max() == (2 * half) ** 2


def test_a_hole_of_the_mean_colour_is_nearly_nothing_to_the_network():
    """Through the batches of a step: what cutout changes is at most half a grey level from 0."""
    config = base_config()
    config.augment, config.batch_size = ("cutout",), 64
    pixels = jnp.full((64, 32, 32, 3), 255, jnp.uint8)
    shown = {}
    for config.cutout_fill in FILLS:
        batches = batches_of(config, sets.SPECS["cifar10"], 10, None)
        rows = jnp.arange(64)
        shown[config.cutout_fill] = np.asarray(inputs_of(batches, 3, pixels, rows, rows))
    std = np.asarray(batches.spec.std)
    hole = shown["mean"] != shown["mean"].max((0, 1, 2, 3))
    assert 0.05 < hole.mean() < 0.25
    np.testing.assert_array_equal(hole, shown["black"] < 0)
    grey = shown["mean"] * std * 255
    assert np.abs(grey[hole]).max() < 0.51 < np.abs((shown["black"] * std * 255)[hole]).min()


def test_order_is_canonical_and_streams_are_separate():
    ops = ("crop", "flip", "autoaugment", "cutout")
    assert tuple(AUGMENTS) == ops
    key, image = jax.random.key(3), jnp.zeros((32, 32, 3), jnp.uint8)
    programs = {
        str(jax.make_jaxpr(lambda key, im, order=order: augment(key, im, order))(key, image))
        for order in (ops, ops[::-1], ops[2:] + ops[:2])
    }
    assert len(programs) == 1

    image, both = many(ops[:2], 64)
    flip = jax.jit(jax.vmap(lambda key, im: augment(key, im, ("flip",))))
    cropped = many(("crop",), 64)[1]
    np.testing.assert_array_equal(both, flip(jax.random.split(key, 64), cropped))
    # Cutout comes last and black: what it left alone is as without it.
    cut = many(("cutout", "crop"), 64)[1]
    assert ((cut == cropped) | (cut == 0)).all() and (cut != cropped).any()
    np.testing.assert_array_equal(many((), 2)[1], [image] * 2)


def test_an_examples_result_depends_on_its_key_alone():
    """In a batch, sharded over devices, and alone with float64 allowed."""
    ops = tuple(AUGMENTS)
    batch = jnp.asarray(np.stack(images(32, 32) * 2))
    keys = jax.random.split(jax.random.key(0), 16)
    run = jax.jit(jax.vmap(lambda key, im: augment(key, im, ops)))
    whole = np.asarray(run(keys, batch))
    assert whole.dtype == np.uint8
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    sharded = run(jax.device_put(keys, split), jax.device_put(batch, split))
    np.testing.assert_array_equal(sharded, whole)
    assert (np.asarray(run(jax.random.split(jax.random.key(1), 16), batch)) != whole).any()
    with jax.enable_x64(True):
        np.testing.assert_array_equal(run(keys[5:6], batch[5:6]), whole[5:6])


def test_mistakes_are_named():
    image, key = jnp.zeros((8, 8, 1), jnp.uint8), jax.random.key(0)
    with pytest.raises(ValueError, match="'mixup'; known: crop, flip, autoaugment, cutout"):
        augment(key, image, ("flip", "mixup"))
    with pytest.raises(ValueError, match=r"\[H, W, 3\]"):
        augment(key, image, ("autoaugment",))
    grey = jax.eval_shape(lambda: augment(key, image, ("crop", "flip", "cutout")))
    assert grey.shape == (8, 8, 1)


def test_normalize():
    mean, std = (0.5, 0.25, 0.0), (0.5, 0.25, 2.0)
    images = np.array([[0, 255, 51]], np.uint8)
    got = normalize(images, mean, std, jnp.float32)
    np.testing.assert_allclose(got, [[-1.0, 3.0, 0.1]], rtol=1e-6)
    assert got.dtype == jnp.float32
    assert normalize(images, mean, std, jnp.bfloat16).dtype == jnp.bfloat16


def test_normalize_in_float64(x64):
    got = normalize(np.array([[1]], np.uint8), (0.1,), (0.3,), jnp.float64)
    np.testing.assert_allclose(got, [[(1 / 255 - 0.1) / 0.3]], rtol=1e-14)
    assert normalize(np.array([[1]], np.uint8), (0.1,), (0.3,), jnp.float32).dtype == jnp.float32

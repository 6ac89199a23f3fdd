"""Every augmentation against Pillow, on random, smooth, constant and few-valued images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from dalif_jax import augment as aug


def pictures():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    smooth = np.stack([x * 7 + y, 255 - y * 6, 40 + (x * y) // 8], -1)
    return {
        "noise": rng.integers(0, 256, (32, 32, 3)),
        "smooth": smooth,
        "narrow": 90 + smooth // 5,
        "constant": np.full((32, 32, 3), [7, 128, 250]),
        "few": rng.choice([0, 60, 61, 255], (32, 32, 3)),
        "wide": rng.integers(0, 256, (20, 36, 3)),
    }


PICTURES = {name: image.clip(0, 255).astype(np.uint8) for name, image in pictures().items()}


def pillow(image, name, value):
    """The same operation through Pillow's own functions."""
    img = Image.fromarray(image)
    grey = (128, 128, 128)
    affine = {
        "shear_x": (1, value, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, value, 1, 0),
        "translate_x": (1, 0, value, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, value),
    }
    if name in affine:
        resample = Image.BICUBIC if name.startswith("shear") else Image.NEAREST
        out = img.transform(img.size, Image.AFFINE, affine[name], resample, fillcolor=grey)
    elif name == "rotate":
        turned = img.convert("RGBA").rotate(value)
        backdrop = Image.new("RGBA", turned.size, (128,) * 4)
        out = Image.composite(turned, backdrop, turned).convert("RGB")
    elif name == "posterize":
        out = ImageOps.posterize(img, int(value))
    elif name == "solarize":
        out = ImageOps.solarize(img, value)
    elif name in ("invert", "autocontrast", "equalize"):
        out = getattr(ImageOps, name)(img)
    else:
        out = getattr(ImageEnhance, name.capitalize())(img).enhance(value)
    return np.asarray(out)


VALUES = {
    "shear_x": [-0.3, -0.1, 0.0, 0.2333, 0.3],
    "shear_y": [-0.2333, 0.0, 0.05, 0.2667, 0.3],
    "translate_x": [-14.5, -3.2, 0.0, 5.1, 12.9],
    "translate_y": [-14.5, -4.8, 0.0, 0.4, 14.5],
    "rotate": [0.0, 6.67, 17.0, 30.0],
    "posterize": [4, 5, 7, 8],
    "solarize": [0.0, 85.3, 142.2, 256.0],
    "color": [0.1, 0.7, 1.0, 1.3, 1.9],
    "contrast": [0.1, 0.4, 1.0, 1.6, 1.9],
    "sharpness": [0.1, 0.5, 1.0, 1.3, 1.9],
    "brightness": [0.1, 0.3, 1.0, 1.7, 1.9],
    "invert": [0],
    "autocontrast": [0],
    "equalize": [0],
}
# Pillow works these two out in float64 and truncates; on an exact whole number its own rounding
# error decides, which float32 and integers do not repeat.
TRUNCATING = ("shear_x", "shear_y", "autocontrast")


@pytest.mark.parametrize("name", aug.OPERATIONS)
def test_operation_is_pillows(name):
    different = total = 0
    for image in PICTURES.values():
        for value in VALUES[name]:
            got = np.asarray(aug.operation(jnp.asarray(image), name, value), int)
            want = pillow(image, name, value).astype(int)
            assert np.abs(got - want).max() <= (1 if name in TRUNCATING else 0), (name, value)
            different += (got != want).sum()
            total += got.size
    # Over every range a channel can have, autocontrast differs in 0.43 % of the grey levels.
    assert different <= (0.006 if name == "autocontrast" else 0.002) * total


def test_the_policy_is_the_papers():
    assert len(aug.POLICY) == 25
    # Rows 1, 2 and 25 of Table 7.
    assert aug.POLICY[0] == (("invert", 0.1, 7), ("contrast", 0.2, 6))
    assert aug.POLICY[1] == (("rotate", 0.7, 2), ("translate_x", 0.3, 9))
    assert aug.POLICY[24] == (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1))


def test_autoaugment_draws_every_row_with_its_probabilities():
    """A flat grey-blue image tells which operation ran; checked against the expected share."""
    image = jnp.asarray(PICTURES["smooth"])
    keys = jax.random.split(jax.random.key(0), 4000)
    out = np.asarray(jax.jit(jax.vmap(aug.cifar_autoaugment, (0, None)))(keys, image))
    # Rows whose second operation is invert leave 255 - x with probability 1/25 * (...), alone:
    inverted = (out == 255 - PICTURES["smooth"]).all((1, 2, 3)).mean()
    # row 1: .1 * .8; row 24: .1 * .2 (equalize not applied); row 15: 0.
    expected = (0.1 * 0.8 + 0.2 * 0.1) / 25
    assert abs(inverted - expected) < 4 * np.sqrt(expected / 4000)
    moved = np.array([np.unique(o.reshape(-1, 3), axis=0).shape[0] for o in out])
    assert moved.min() > 1
    unchanged = (out == PICTURES["smooth"]).all((1, 2, 3)).mean()
    # At least the product of both probabilities of not being applied; identities add to it.
    floor = np.mean([(1 - a[1]) * (1 - b[1]) for a, b in aug.POLICY])
    assert floor - 0.03 < unchanged < floor + 0.25


def test_crop_is_a_window_of_the_padded_image_and_all_windows_occur():
    image = np.arange(1, 65, dtype=np.uint8).reshape(8, 8, 1)
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    windows = {padded[i : i + 8, j : j + 8].tobytes() for i in range(5) for j in range(5)}
    keys = jax.random.split(jax.random.key(1), 600)
    out = jax.vmap(lambda k: aug.random_crop(k, jnp.asarray(image), 2))(keys)
    assert {np.asarray(o).tobytes() for o in out} == windows


def test_flip_mirrors_half_of_the_time():
    image = jnp.arange(12, dtype=jnp.uint8).reshape(2, 2, 3)
    out = jax.vmap(aug.random_flip, (0, None))(jax.random.split(jax.random.key(2), 2000), image)
    flipped = np.asarray((out == image[:, ::-1]).all((1, 2, 3)))
    straight = np.asarray((out == image).all((1, 2, 3)))
    assert (flipped ^ straight).all()
    assert abs(flipped.mean() - 0.5) < 0.05


def test_cutout_hole_is_a_clipped_square():
    image = jnp.full((32, 32, 3), 255, jnp.uint8)
    out = np.asarray(
        jax.vmap(lambda k: aug.cutout(k, image, 16))(jax.random.split(jax.random.key(3), 500))
    )
    for holed in out:
        ys, xs = np.nonzero(holed[..., 0] == 0)
        height, width = np.ptp(ys) + 1, np.ptp(xs) + 1
        assert height * width == ys.size  # a full rectangle
        for extent, low, high in ((height, ys.min(), ys.max()), (width, xs.min(), xs.max())):
            assert extent == 16 or (8 <= extent < 16 and (low == 0 or high == 31))


def test_order_is_canonical_and_draws_are_independent():
    key, image = jax.random.key(4), jnp.asarray(PICTURES["noise"])
    both = aug.augment(key, image, ("cutout", "crop"))
    np.testing.assert_array_equal(both, aug.augment(key, image, ("crop", "cutout")))
    # Cutout's hole stays where it is when the crop is switched off.
    alone = aug.augment(key, image, ("cutout",))
    hole = np.asarray(alone == 0).all(-1)
    assert (np.asarray(both)[hole] == 0).all()
    with pytest.raises(ValueError, match="known: crop"):
        aug.augment(key, image, ("crop", "mixup"))


def test_the_same_key_gives_the_same_image_in_any_batch():
    keys = jax.random.split(jax.random.key(5), 6)
    image = jnp.asarray(PICTURES["noise"])
    f = jax.jit(jax.vmap(lambda k: aug.augment(k, image, aug.AUGMENTS)))
    np.testing.assert_array_equal(f(keys)[:2], f(keys[:2]))


def test_normalize_by_hand():
    x = np.array([[[0, 255, 51]]], np.uint8)
    out = aug.normalize(x, (0.5, 0.5, 0.1), (0.5, 0.25, 0.2), jnp.float32)
    np.testing.assert_allclose(out[0, 0], [-1.0, 2.0, 0.5], rtol=1e-6)
    assert aug.normalize(x, (0.5,), (0.5,), jnp.bfloat16).dtype == jnp.bfloat16

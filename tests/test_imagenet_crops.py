"""ImageNet's pictures: decoded, cropped, resized."""

import io

import imagenet_files
import numpy as np
import pytest
from imagenet_sets import VALIDATION, load
from PIL import Image

from dalif_jax.data import imagenet


def test_grey_and_cmyk_files_become_rgb(tmp_path):
    pairs = []
    for mode in ("L", "CMYK"):
        file = io.BytesIO()
        Image.fromarray(imagenet_files.photo(0)).resize((48, 48)).convert(mode).save(file, "JPEG")
        pairs.append((file.getvalue(), 0))
    imagenet_files.prepare(tmp_path, pairs, VALIDATION)
    split = load(tmp_path)["train"]
    assert [split.test_example(i)[0].shape for i in range(2)] == [(32, 32, 3)] * 2


def test_random_boxes_are_those_of_the_definition():
    draw = imagenet.uniforms(5)
    width, height = 500, 375
    boxes = np.array([imagenet.random_box(draw, width, height) for _ in range(4000)])
    left, top, right, bottom = boxes.T
    assert left.min() == 0 == top.min() and right.max() == width and bottom.max() == height
    w, h = right - left, bottom - top
    # Rounding to pixels moves the smallest boxes' ratio by less than 2 %.
    assert (w / h).min() > 0.75 * 0.98 and (w / h).max() < 4 / 3 * 1.02
    share = w * h / (width * height)
    assert 0.078 < share.min() < 0.085 and share.max() <= 1.0
    # A share s fits with probability 1 up to 9/16, then -log(s) / (2 log(4/3)): the mean over
    # 0.08..1 is 0.4318 for an image of 4 to 3, where that of all draws would be 0.54.
    assert abs(share.mean() - 0.4318) < 0.012
    assert np.corrcoef(left / (width - w + 1), top / (height - h + 1))[0, 1] < 0.05


@pytest.mark.parametrize(
    ("size", "box"),
    [((1000, 12), (492, 0, 508, 12)), ((12, 1000), (0, 492, 12, 508))],
)
def test_a_shape_no_draw_fits_gives_the_largest_central_box(size, box):
    assert imagenet.random_box(lambda: 0.999, *size) == box


def test_the_bits_of_a_crop_never_change():
    draw = imagenet.uniforms(3407, imagenet.CROP, 12, 3)
    got = [draw() for _ in range(3)]
    assert got == [0.8278051508036974, 0.9850157784871396, 0.4727678575974006]
    assert imagenet.random_box(draw, 500, 375) == (42, 179, 184, 332)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (300, 300), (257, 1000), (100, 90)])
def test_the_evaluated_crop_is_resize_256_and_centre_224(size):
    image = Image.fromarray(imagenet_files.photo(1)).resize(size)
    short = min(size)
    resized = image.resize(
        (int(256 * size[0] / short), int(256 * size[1] / short)), Image.Resampling.BILINEAR
    )
    x, y = (round((n - 224) / 2.0) for n in resized.size)
    expected = np.asarray(resized)[y : y + 224, x : x + 224]
    np.testing.assert_array_equal(imagenet.center_crop(image, 224), expected)

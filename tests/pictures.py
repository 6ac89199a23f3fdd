"""Images to augment: what an operation may get wrong lies in one of them."""

import numpy as np


def images(height, width):
    """Noise, gradients, few-valued and constant images, and one with a dominant grey level."""
    rng = np.random.default_rng(height)
    y, x = np.mgrid[:height, :width]
    ramp = np.stack([x * 255 / (width - 1), y * 255 / (height - 1), (x + y) * 2.0], -1)
    waves = 128 + 100 * np.sin(x / 5.0)[..., None] * np.cos(y[..., None] / [3.0, 6.0, 9.0])
    few = rng.choice([17, 90, 201], (height, width, 3))
    spike = np.where(rng.random((height, width, 3)) < 0.9, 250, rng.integers(0, 256, ramp.shape))
    return [
        np.asarray(im).astype(np.uint8)
        for im in (
            rng.integers(0, 256, (height, width, 3)),
            rng.integers(60, 180, (height, width, 3)),
            ramp,
            waves,
            few,
            spike,
            np.full((height, width, 3), (0, 77, 255)),
            np.where(few == 90, 90, 91),
        )
    ]

"""Class folders of PNG or JPEG images.

Images are resized to one square side (Pillow, bilinear) and stay grey where all of them are, else
all become RGB; transparency is dropped.
"""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dalif_jax.data.events.events import DataError
from dalif_jax.data.own import Found, account, class_files, fits

SUFFIXES = (".png", ".jpg", ".jpeg")
GREY = (
    "1",
    "L",
    "LA",
)  # Pillow's modes; deeper ones are refused, for what their levels mean differs
KNOWN = (*GREY, "P", "RGB", "RGBA", "CMYK", "YCbCr")


def image_folder(root, side):
    """(splits, Found without statistics) of a folder of images; see the top of the file.

    Args:
      side: what images are resized to; 0: the one square size that all have.
    Raises:
      DataError: as class_files; an image that cannot be read, of another depth, or of another size
        where no side is given; more bytes than there is memory.
    """
    from PIL import Image

    def usable(path):
        return "" if path.suffix.lower() in SUFFIXES else "of another kind than PNG and JPEG"

    rows, classes, left_out = class_files(root, "image_folder", usable)
    root = Path(root).expanduser()
    account("image_folder", root, rows, left_out, not (root / "train").is_dir())
    everything = [path for part in rows.values() for path, _ in part]

    def look(path):
        try:
            with Image.open(path) as image:
                return image.size, image.mode
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"image_folder: {path} cannot be read as an image: {error}") from error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        about = list(pool.map(look, everything))
        for path, (_, mode) in zip(everything, about, strict=True):
            if mode not in KNOWN:
                raise DataError(
                    f"image_folder: {path} is of mode {mode}; 8 bits a channel are read"
                )
        grey = all(mode in GREY for _, mode in about)
        if not side:
            sizes = Counter(size for size, _ in about)
            if len(sizes) > 1 or len({*next(iter(sizes))}) > 1:
                shown = ", ".join(f"{w}x{h}" for (w, h), _ in sizes.most_common(3))
                raise DataError(
                    f"image_folder: images are of {len(sizes)} sizes, most {shown}; set "
                    "--config.frame_size to the square side that they are resized to"
                )
            side = next(iter(sizes))[0]
        channels = 1 if grey else 3
        fits(
            len(everything) * side * side * channels,
            "image_folder",
            (len(everything), side, side, channels),
        )

        def decode(path):
            try:
                with Image.open(path) as image:
                    image = image.convert("L" if grey else "RGB")
                    if image.size != (side, side):
                        image = image.resize((side, side), Image.Resampling.BILINEAR)
                    return np.asarray(image).reshape(side, side, channels)
            except (OSError, ValueError, SyntaxError) as error:
                raise DataError(f"image_folder: {path} cannot be read: {error}") from error

        splits = {
            part: (
                np.stack(list(pool.map(decode, [path for path, _ in labelled]))),
                np.array([label for _, label in labelled], np.int32),
            )
            for part, labelled in rows.items()
        }
    return splits, Found((side, side, channels), classes, *(len(part) for part in rows.values()))

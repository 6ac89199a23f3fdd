"""Class folders of PNG or JPEG images.

Images are turned upright as their EXIF orientation says, resized to one square side (Pillow,
bilinear), and stay grey where all of them are, else all become RGB. Transparency is dropped, CMYK
becomes RGB, and a line says of how many images. More than 8 bits a channel are refused.
"""

import hashlib
import io
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from dalif_jax.data import fingerprint
from dalif_jax.data.class_folders import account, class_files, part_folders
from dalif_jax.data.events.events import DataError
from dalif_jax.data.fingerprint import printable
from dalif_jax.data.own import Found, fits

SUFFIXES = (".png", ".jpg", ".jpeg")
GREY = ("1", "L", "LA")  # Pillow's modes
KNOWN = (*GREY, "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
# Pillow's modes of 16 bits and more, and its names of codings that it cuts to 8 bits.
DEEP_MODES, DEEP_CODINGS = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N"), (";16", ";32", ";4B")
UNREADABLE = (OSError, ValueError, SyntaxError, TypeError, EOFError)  # what Pillow raises


class Header(NamedTuple):
    """What an image file says before it is decoded."""

    size: tuple  # width, height
    mode: str
    deep: bool  # more than 8 bits a channel
    transparent: bool


def image_folder(root, side):
    """(splits, Found without statistics) of a folder of images; see the top of the file.

    Args:
      side: what images are resized to; 0: the one square size that all have.
    Raises:
      DataError: as class_files; an image that cannot be read, of another depth, or of another size
        where no side is given; more bytes than there is memory.
    """

    def usable(path):
        return "" if path.suffix.lower() in SUFFIXES else "of another kind than PNG and JPEG"

    rows, classes, left_out = class_files(root, "image_folder", usable)
    root = Path(root).expanduser()
    divided = not part_folders(root, "image_folder")[0]
    account("image_folder", root, rows, left_out, divided)
    everything = [path for part in rows.values() for path, _ in part]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        headers = dict(zip(everything, pool.map(read_header, everything), strict=True))
        _check_modes(headers)
        grey = all(header.mode in GREY for header in headers.values())
        side, channels = side or _common_side(headers.values()), 1 if grey else 3
        shape = (side, side, channels)
        fits(len(everything) * side * side * channels, "image_folder", (len(everything), *shape))

        def decode(path):
            return decode_image(path, side, "L" if grey else "RGB")

        splits, contents = {}, {}
        for part, labelled in rows.items():
            images = np.empty((len(labelled), *shape), np.uint8)
            paths = [path for path, _ in labelled]
            for i, (pixels, digest) in enumerate(pool.map(decode, paths)):
                images[i], contents[paths[i]] = pixels.reshape(shape), digest
            splits[part] = images, np.array([label for _, label in labelled], np.int32)
    return splits, Found(
        shape,
        classes,
        *(len(part) for part in rows.values()),
        fingerprint=fingerprint.of_folders(root, rows, classes, contents),
    )


def read_header(path):
    """Header of an image file. Raises DataError where it is none."""
    try:
        with Image.open(path) as image:
            codings = " ".join(str(tile[-1]) for tile in image.tile)
            deep = image.mode in DEEP_MODES or any(coding in codings for coding in DEEP_CODINGS)
            alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
            return Header(image.size, image.mode, deep, alpha)
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise DataError(
            f"image_folder: {printable(path)} cannot be read as an image: {error}. Replace the "
            "file or remove it"
        ) from error


def _check_modes(headers):
    """Refuse images that cannot be used, and print what is dropped from the others."""
    for path, header in headers.items():
        if header.deep:
            raise DataError(
                f"image_folder: {printable(path)} is of mode {header.mode} with more than 8 bits a "
                "channel; 8 bits a channel are read. Scale its levels to 0..255 first, because "
                "which level is white differs from camera to camera"
            )
        if header.mode not in KNOWN:
            raise DataError(
                f"image_folder: {printable(path)} is of mode {header.mode}; grey or RGB images of "
                "8 bits a channel are read. Convert the file"
            )
    for what, paths in (
        ("have transparency, which is dropped", [p for p, h in headers.items() if h.transparent]),
        ("are CMYK and become RGB", [p for p, h in headers.items() if h.mode == "CMYK"]),
    ):
        if paths:
            print(f"image_folder: {len(paths):,} images {what} (e.g. {printable(paths[0])})")


def _common_side(headers):
    """The side of square images of one size. Raises DataError for others."""
    sizes = Counter(header.size for header in headers)
    if len(sizes) > 1 or len({*next(iter(sizes))}) > 1:
        shown = ", ".join(f"{w}x{h}" for (w, h), _ in sizes.most_common(3))
        raise DataError(
            f"image_folder: images are of {len(sizes)} sizes, most {shown}; set "
            "--config.frame_size to the square side that they are resized to"
        )
    return next(iter(sizes))[0]


def decode_image(path, side, mode):
    """(uint8 [side, side] or [side, side, 3], digest of the file) of an image, upright.

    Raises:
      DataError: the file is damaged.
    """
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            image = _upright(image).convert(mode)
            if image.size != (side, side):
                image = image.resize((side, side), Image.Resampling.BILINEAR)
            return np.asarray(image), hashlib.sha256(content).digest()
    except UNREADABLE as error:
        raise DataError(
            f"image_folder: {printable(path)} cannot be read: {error}. Replace the file, or remove "
            "it"
        ) from error


def _upright(image):
    """An image turned as its EXIF orientation says; unchanged where that part is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the parser of EXIF raises exceptions of many kinds
        return image

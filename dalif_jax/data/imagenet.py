"""ImageNet from the records tensorflow-datasets prepared: found, decoded, cropped, one at a time.

Training images get the random resized crop here, where their full size is known; it is a function
of (seed, step, place in the global batch), so that neither threads nor processes change it.
"""

import numpy as np
from PIL import Image

from dalif_jax.data.events.events import DataError
from dalif_jax.data.events.shelf import DATA_DIR, home
from dalif_jax.data.records import Records, newest_version, passed_over

CROP = 4  # the stream of randomness of the crops; sets.py, training/steps.py use others of the seed
SCALE = (0.08, 1.0)  # of a crop's area to the image's
RATIO = (3 / 4, 4 / 3)  # of its width to its height
PARTS = {"train": "train", "test": "validation"}  # the labels of its own test set are not public


def random_box(uniform, width, height):
    """The random resized crop of Szegedy et al. (arXiv 1409.4842), as torchvision draws it.

    Args:
      uniform: () -> float in [0, 1).
      width, height: of the image, pixels.
    Returns:
      (left, top, right, bottom), pixels inside the image: of up to ten draws of area and log
      aspect ratio the first that fits, else the largest central box of an allowed ratio.
    """
    for _ in range(10):
        area = width * height * (SCALE[0] + (SCALE[1] - SCALE[0]) * uniform())
        low, high = np.log(RATIO)
        ratio = np.exp(low + (high - low) * uniform())
        w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(uniform() * (width - w + 1)), int(uniform() * (height - h + 1))
            return left, top, left + w, top + h
    w, h = width, height
    if width / height < RATIO[0]:
        h = round(w / RATIO[0])
    elif width / height > RATIO[1]:
        w = round(h * RATIO[1])
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def uniforms(*numbers):
    """() -> float in [0, 1), a stream that is a function of the numbers, on any NumPy version."""
    # Of NumPy's random numbers only the raw bits are promised never to change.
    bits = np.random.Philox(np.random.SeedSequence(numbers))
    return lambda: float(bits.random_raw() >> 11) * 2.0**-53


def training_crop(image, size, *numbers):
    """A random resized crop of a Pillow image, bilinear: uint8 [size, size, 3]."""
    box = random_box(uniforms(*numbers), *image.size)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def center_crop(image, size):
    """The shorter side to 8/7 of `size` (256 for 224), bilinear; its centre: uint8 [size, size, 3].

    Rounded as torchvision does: the longer side down, the corner to the even neighbour.
    """
    width, height = image.size
    short = round(size * 256 / 224)
    if width <= height:
        width, height = short, short * height // width
    else:
        width, height = short * width // height, short
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


class ImageNet:
    """One split. Pickled, it opens its files anew.

    Args:
      records: records.Records.
      size: pixels, the side of the images it gives.
      classes: labels lie below.
      rows: int [N], the records that belong to it; None means all.
    """

    def __init__(self, records, size, classes, rows=None):
        self.records, self.size, self.classes = records, size, classes
        self.rows = np.arange(len(records)) if rows is None else rows

    def __len__(self):
        return len(self.rows)

    def pick(self, rows):
        """The part of it with these numbers."""
        return ImageNet(self.records, self.size, self.classes, self.rows[rows])

    def _open(self, i):
        record = int(self.rows[i])
        example = self.records.example(record)
        label = example["label"]
        if not 0 <= label < self.classes:
            raise DataError(
                f"{self.records.where(record)}: label {label} is not in 0..{self.classes - 1}"
            )
        return self.records.image(example["image"], record), label

    def training_example(self, i, seed, step, place):
        """(uint8 [size, size, 3], label) of example i at this place of the step's global batch.

        Raises:
          DataError: a damaged record, image or label; names split, record and file.
        """
        image, label = self._open(i)
        return training_crop(image, self.size, seed, CROP, step, place), np.int32(label)

    def test_example(self, i):
        """(uint8 [size, size, 3], label) of example i as it is evaluated. Raises DataError."""
        image, label = self._open(i)
        return center_crop(image, self.size), np.int32(label)


def load(name, data_dir, spec, cache_dir="", partial=False):
    """{"train": ImageNet, "test": ImageNet}, the latter from the official validation set.

    Raises:
      DataError: not there, damaged, or not whole and not `partial`.
    """
    root = home(data_dir)
    prepared = root / "imagenet2012"
    folder = newest_version(prepared)
    if folder is None:
        raise DataError(
            f"{name} was not found. Looked for\n"
            f"  {prepared / '<version>' / 'dataset_info.json'}{passed_over(prepared)}\n"
            "Put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar of https://image-net.org in "
            f"{root / 'downloads' / 'manual'} and prepare it once (preparing, not reading, needs "
            "`pip install tensorflow-datasets tensorflow importlib_resources`):\n"
            '  python -c "import tensorflow_datasets as tfds; '
            f"tfds.builder('imagenet2012', data_dir='{root}', file_format='array_record')"
            '.download_and_prepare()"\n'
            f"A folder that was prepared as TFRecord is read as it is. {DATA_DIR}"
        )
    splits, found = {}, []
    for part, official in PARTS.items():
        records, expected = Records(name, folder, official, cache_dir), getattr(spec, part)
        if len(records) != expected and not partial:
            raise DataError(
                f"{name} {official}: {folder} holds {len(records):,} records of {expected:,}; "
                "--config.partial_data=True takes what there is"
            )
        splits[part] = ImageNet(records, spec.shape[0], spec.classes)
        found.append(f"{official} {len(records):,} of {expected:,} records")
        if unused := records.unused():
            found.append(f"{len(unused)} files its description does not name ({unused[0]})")
    print(f"{name} from {folder}: {', '.join(found)}", flush=True)
    return splits

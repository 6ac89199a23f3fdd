"""The data sets, as images or frames of events in memory, and the order of their examples.

The order is a pure function of (seed, step), so a run that continues at step k sees exactly what
one that was never stopped sees, and nothing about the data needs saving.
"""

import functools
import importlib.util
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dalif_jax.data import arrays, cifar, image_folder, imagenet, own
from dalif_jax.data.digits import digits as read_digits
from dalif_jax.data.events import frames, own_recordings, recordings
from dalif_jax.data.events.events import DataError
from dalif_jax.suggest import did_you_mean

ORDER = 2  # the stream of randomness that shuffles; training/steps.py uses others of the same seed


class Spec(NamedTuple):
    """What is known of a data set without reading it; `mean` and `std` of pixels scaled to 0..1.

    Sets of event cameras have no mean and std: their frames are counts, used as they are.
    """

    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    streamed: bool = False  # from disk while training, for it fits no device
    mirrored: str = "itself"  # the class of a mirror image: itself, another, or none
    own: bool = False  # somebody's own: what it is, is found, see `look`

    @property
    def events(self):
        """Whether examples are frames [T, H, W, 2] of events, not images."""
        return not self.mean


class Split(NamedTuple):
    images: np.ndarray  # uint8 [N, H, W, C], or counts of events [N, T, H, W, 2]
    labels: np.ndarray  # int32 [N]


# fmt: off
SPECS = {
    "digits": Spec((8, 8, 1), 10, 1150, 287, (0.2881,), (0.3540,),
                   mirrored="none"),
    "cifar10": Spec((32, 32, 3), 10, 50_000, 10_000,
                    (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": Spec((32, 32, 3), 100, 50_000, 10_000,
                     (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": Spec((224, 224, 3), 1000, 1_281_167, 50_000,
                     (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), streamed=True),
    "digits_dvs": Spec((16, 16, 2), 10, 1150, 287, mirrored="none"),
    "nmnist": Spec((34, 34, 2), 10, 60_000, 10_000, mirrored="none"),
    "cifar10dvs": Spec((64, 64, 2), 10, 9000, 1000),
    # A right hand becomes a left one, and clockwise counter clockwise.
    "dvsgesture": Spec((128, 128, 2), 11, 1176, 288, mirrored="another"),
    "dvsgesture_tonic": Spec((128, 128, 2), 11, 1077, 264, mirrored="another"),
    "image_folder": Spec((0, 0, 0), 0, 0, 0, (0.0,), (1.0,), own=True),
    "arrays": Spec((0, 0, 0), 0, 0, 0, (0.0,), (1.0,), own=True),
    "event_folder": Spec((0, 0, 2), 0, 0, 0, own=True),
}
# fmt: on


def spec(name, frame_size=0, found=None):
    """Spec of a data set; `frame_size` is the side of an event set's frames or of ImageNet's
    crops, 0 the usual one; `found` what `look` found, by name, of a set of one's own.

    Raises:
      DataError: unknown name, or a frame_size for a set of images of one size.
    """
    if name not in SPECS:
        raise DataError(
            f"unknown dataset {name!r}; known: {', '.join(SPECS)}" + did_you_mean(name, SPECS)
        )
    known = SPECS[name]
    if known.own and found:
        known = known._replace(
            classes=len(found["classes"]),
            **{key: found[key] for key in ("shape", "train", "test", "mean", "std")},
        )
        if not known.events:
            return known
    if not frame_size:
        return known
    if not known.events and not known.streamed:
        raise DataError(
            f"frame_size={frame_size} is for event cameras and imagenet; {name}'s images have one "
            "size"
        )
    return known._replace(shape=(frame_size, frame_size, known.shape[-1]))


def load(
    name,
    data_dir="",
    validation_split=0.0,
    settings=None,
    cache_dir="",
    partial=False,
    frame_size=0,
    found=None,
):
    """Read a data set whole, or open it where it streams; nothing is ever downloaded.

    Args:
      name: a key of SPECS.
      data_dir: where it lies; "" means TFDS_DATA_DIR of the environment, else
        ~/tensorflow_datasets.
      validation_split: share of the training set held out, 0 <= f < 1; see `hold_out`.
      settings: frames.FrameSettings, for sets of event cameras.
      cache_dir: where their frames are kept, see frames.load.
      partial: use what there is when some of an event set or of ImageNet is missing.
      frame_size, found: as in `spec`.
    Returns:
      {"train": Split, "test": Split}, with "validation" where a share is held out and
      "unseen_writers" for digits. Images are uint8 [N, H, W, C], frames of events
      [N, T, H, W, 2] and memory-mapped, labels int32 [N]. For imagenet, imagenet.ImageNet.
    Raises:
      DataError: unknown, missing or damaged data, or an impossible validation_split.
    """
    known = spec(name, frame_size, found)
    hold_out(known.train, validation_split)  # refuses an impossible share before anything is read
    if known.own and name != "event_folder":
        splits, now = look_at_images(name, data_dir, frame_size)
        own.still(name, data_dir, found, now)
        splits = {part: Split(*arrays) for part, arrays in splits.items()}
    elif known.events:
        if known.own:
            own.still(name, data_dir, found, look(name, data_dir))
        splits = event_frames(name, data_dir, settings, cache_dir, partial)
    elif known.streamed:
        splits = imagenet.load(name, data_dir, known, cache_dir, partial)
        if validation_split:
            whole = splits["train"]
            held = hold_out(len(whole), validation_split)
            splits |= {"train": whole.pick(~held), "validation": whole.pick(held)}
        return splits
    else:
        if name == "digits":
            splits = digits()
        else:
            read = cifar.load(name, data_dir, cache_dir)
            splits = {part: Split(*arrays) for part, arrays in read.items()}
        for part, expected in (("train", known.train), ("test", known.test)):
            check_images(name, part, splits[part], known, expected)
    if validation_split:
        images, labels = splits["train"]
        # Runs by earlier versions, which kept no fingerprint, keep their split.
        by_class = known.own and found.get("fingerprint")
        held = hold_out(len(labels), validation_split, labels if by_class else None)
        splits["train"] = Split(images[~held], labels[~held])
        splits["validation"] = Split(images[held], labels[held])
    return splits


def look(name, data_dir, frame_size=0):
    """own.Found of a set of one's own, its statistics measured on the training set.

    Raises:
      DataError: there is no such set; says what was wrong with which file.
    """
    if name == "event_folder":
        source, classes = own_recordings.look(data_dir)
        train, test = (len(source.splits[part]) for part in ("train", "test"))
        return own.Found(
            (*source.sensor, 2), classes, train, test,
            fingerprint=own_recordings.content(source, classes),
        )  # fmt: skip
    splits, found = look_at_images(name, data_dir, frame_size)
    if found.timesteps:
        return found
    mean, std = own.statistics(splits["train"][0])
    return found._replace(mean=mean, std=std)


@functools.lru_cache(maxsize=1)  # what is looked at is then trained on
def look_at_images(name, data_dir, frame_size=0):
    """(splits, Found without statistics)."""
    if name == "arrays":
        if frame_size:
            raise DataError(f"frame_size={frame_size}: the images of arrays have one size")
        return arrays.arrays(data_dir)
    return image_folder.image_folder(data_dir, frame_size)


def size(split):
    """How many examples a split of `load` has."""
    return len(split.labels) if isinstance(split, Split) else len(split)


def check_images(name, part, split, known, expected):
    """Raise DataError where a split is not what the Spec says."""
    images, labels = split
    if images.shape != (expected, *known.shape) or labels.shape != (expected,):
        raise DataError(
            f"{name} {part}: found images {images.shape} and labels {labels.shape}, "
            f"expected {(expected, *known.shape)} and {(expected,)}"
        )
    if labels.min() < 0 or labels.max() >= known.classes:
        raise DataError(f"{name} {part}: a label lies outside 0..{known.classes - 1}")


def event_frames(name, data_dir, settings, cache_dir="", partial=False):
    """{split: Split} of an event set's frames, converted on first use; see recordings and frames.

    Raises:
      DataError: missing or bad recordings; frames larger than the sensor where events are summed.
    """
    if importlib.util.find_spec("tonic") is None:
        raise DataError(f"{name} needs the package tonic: pip install -r requirements.txt")
    source = own_recordings.with_unit(recordings.find(name, data_dir, partial), settings.time_unit)
    if settings.resize == "sum" and max(settings.size) > min(source.sensor):
        raise DataError(
            f"frame_size={settings.size[0]} is larger than {name}'s sensor of "
            f"{source.sensor[0]}x{source.sensor[1]}: events cannot be summed into more pixels; "
            "use resize='bilinear' or a smaller frame_size"
        )
    converted = frames.load(source, settings, cache_dir)
    examples = ", ".join(f"{part} {len(labels):,}" for part, (_, labels) in converted.items())
    print(f"{name}, {source.edition}: {examples}", flush=True)
    return {part: Split(*arrays) for part, arrays in converted.items()}


def hold_out(examples, share, labels=None):
    """bool [examples]: floor(examples * share) of them, evenly spaced, whatever the seed.

    Example i is held out where floor((i + 1) share) > floor(i share), exactly for the decimal
    that `share` is written as. Raises DataError unless 0 <= share < 1, or if it rounds to none.

    Args:
      labels: int [examples]; with them the examples are counted class by class, so that each class
        gives its share. Without them labels that repeat with a period can lose a whole class.
    """
    if not 0 <= share < 1:
        raise DataError(f"validation_split={share} must be at least 0 and below 1")
    fraction = Fraction(str(share))
    # Python integers: the product passes 64 bits for a share like 0.3333333333333333.
    below = [i * fraction.numerator // fraction.denominator for i in range(examples + 1)]
    if share and not below[-1]:
        raise DataError(f"validation_split={share} holds out none of {examples} examples")
    held = np.diff(below) > 0
    if labels is not None:
        by_class = np.empty(examples, bool)
        by_class[np.argsort(labels, kind="stable")] = held
        held = by_class
    return held


def sample(split, count):
    """[count, ...]: images or frames of a split, spread evenly over all of its classes.

    ImageNet's labels are not known without reading it: its examples are spread over the records.

    Args:
      split: a split of `load`; count: how many, at most all.
    """
    examples = size(split)
    count = min(count, examples)
    spread = np.arange(count) * examples // count
    if isinstance(split, Split):
        return split.images[np.argsort(split.labels, kind="stable")[spread]]
    return np.stack([split.test_example(i)[0] for i in spread])


def digits():
    """The 1,797 real 8x8 digits of scikit-learn, by an index rule, for there is no official split.

    The last 360 in file order are `unseen_writers`: by the collection's order their writers are
    not among the earlier ones. Of the first 1,437, every fifth (index 4, 9, ...) is `test`, the
    rest `train`. The grey levels 0..16 are stored times 15, as 0..240: exact, and with the spread
    of an 8-bit image.
    """
    images, labels = read_digits()
    images = images[..., None] * np.uint8(15)
    index = np.arange(len(labels))
    seen, fifth = index < 1437, index % 5 == 4
    parts = {"train": seen & ~fifth, "test": seen & fifth, "unseen_writers": ~seen}
    return {name: Split(images[part], labels[part]) for name, part in parts.items()}


def steps_per_epoch(examples, batch_size):
    """Whole batches in an epoch; the remainder is dropped. Raises DataError if there is none."""
    if not 1 <= batch_size <= examples:
        raise DataError(f"batch_size={batch_size} must lie in 1..{examples}, the training examples")
    return examples // batch_size


def epoch_order(seed, epoch, examples, batch_size):
    """The training examples of one epoch, a pure function that can be jitted.

    The batch of global step k is `epoch_order(seed, k // steps, ...)[k % steps]`.

    Args:
      seed, epoch: integers, traced or not, 0 <= seed < 2**31.
      examples, batch_size: static integers.
    Returns:
      int32 [steps, batch_size], a random permutation of the examples without its remainder.
    """
    steps = steps_per_epoch(examples, batch_size)
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), ORDER)
    order = jax.random.permutation(jax.random.fold_in(key, epoch), examples)
    return order[: steps * batch_size].reshape(steps, batch_size).astype(jnp.int32)


def eval_batches(examples, batch_size):
    """Batches that cover every example once: (indices int32 [B], valid bool [B]), NumPy.

    The last is filled up with example 0, marked not valid, so that all have one shape.
    """
    for start in range(0, examples, batch_size):
        indices = np.arange(start, start + batch_size, dtype=np.int32)
        valid = indices < examples
        yield np.where(valid, indices, 0).astype(np.int32), valid

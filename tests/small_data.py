"""Start a program with data sets of a few examples, in their published layouts.

    python tests/small_data.py DIRECTORY train.py --config configs/cifar10_r20.py ...

Only what a published set fixes is replaced: the number of its examples and, for CIFAR, the
checksums of its files. Everything else is the program as users start it.
"""

import hashlib
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRAIN, TEST = 16, 8  # examples of CIFAR


def write_cifar(directory):
    """Both CIFAR sets as their archives unpack, with TRAIN and TEST random images."""
    import numpy as np
    from cifar_files import official, write

    draw = np.random.default_rng(0)

    def part(count, key, classes):
        images = draw.integers(0, 256, (count, 32, 32, 3), np.uint8)
        return official(images, list(range(classes))[:count], key)

    batches = {f"data_batch_{i}": part(n, b"labels", 10) for i, n in enumerate((4, 3, 3, 3, 3), 1)}
    batches["test_batch"] = part(TEST, b"labels", 10)
    write(directory / "cifar-10-batches-py", batches)
    cifar100 = {"train": part(TRAIN, b"fine_labels", 100), "test": part(TEST, b"fine_labels", 100)}
    write(directory / "cifar-100-python", cifar100)


def write_imagenet(directory):
    import imagenet_files

    pairs = [(imagenet_files.jpeg(i, 80, 72), 7 * i % 1000) for i in range(TRAIN + TEST)]
    imagenet_files.prepare(directory, pairs[:TRAIN], pairs[TRAIN:], "tfrecord", 2)


def write_events(directory):
    from event_files import draw_events, write_aedat2, write_gesture, write_nmnist

    from dalif_jax.data.events.layouts import CIFAR_CLASSES

    (directory / "cifar10dvs").mkdir()
    for label, name in enumerate(CIFAR_CLASSES[:2]):
        folder = directory / "cifar10dvs" / name
        folder.mkdir()
        for number in range(12):
            events = draw_events(1500, seed=20 * label + number, span=1_200_000)
            write_aedat2(folder / f"cifar10_{name}_{number}.aedat", events)

    second = 1_000_000
    length = 3 * second  # 60 frames of 30 ms and some

    def rows_of(name):
        events = draw_events(20_000, seed=len(name), span=9 * length)
        return events, [(k % 11 + 1, length * k, length * (k + 1)) for k in range(8)]

    (directory / "dvsgesture").mkdir()
    trials = {"train": ["user01_led", "user02_lab_a"], "test": ["user24_led_b"]}
    write_gesture(directory / "dvsgesture", trials, rows_of)

    for part, count in (("Train", TRAIN), ("Test", TEST)):
        for number in range(1, count + 1):
            folder = directory / "nmnist" / part / str(number % 10)
            folder.mkdir(parents=True, exist_ok=True)
            write_nmnist(folder / f"{number:05}.bin", draw_events(300, 34, seed=number))


def write_all(directory):
    """The data sets that recipes use and that are not part of the package."""
    directory = Path(directory)
    for name, write in (("cifar", write_cifar), ("imagenet", write_imagenet)):
        (directory / name).mkdir(parents=True)
        write(directory / name)
    write_events(directory)


def data_dir(directory, dataset):
    """The data_dir of a set that `write_all` wrote, "" for sets that the package holds."""
    names = {"cifar10": "cifar", "cifar100": "cifar"}
    path = Path(directory, names.get(dataset, dataset))
    return str(path) if path.is_dir() else ""


def shrink(directory):
    """Tell the package how many examples the small CIFAR sets have, and their checksums."""
    from dalif_jax.data import cifar, sets

    for name, archive in cifar.ARCHIVES.items():
        files = Path(directory, "cifar", archive.folder)
        sums = {file: hashlib.md5((files / file).read_bytes()).hexdigest() for file in archive.md5}
        cifar.ARCHIVES[name] = archive._replace(md5=sums)
        sets.SPECS[name] = sets.SPECS[name]._replace(train=TRAIN, test=TEST)


if __name__ == "__main__":
    directory, program, *arguments = sys.argv[1:]
    sys.path[0] = str(ROOT)
    sys.argv = [program, *arguments]
    import dalif_jax.runs.environment  # noqa: F401  before anything imports JAX

    shrink(directory)
    runpy.run_path(str(ROOT / program), run_name="__main__")

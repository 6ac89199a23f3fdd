"""The event data sets as folders: which file is which sample, in which split.

The order of recordings is that of their numbers, never of the folder.
"""

import re

from dalif_jax.data.events import moving_digits
from dalif_jax.data.events.events import DataError
from dalif_jax.data.events.own_recordings import event_folder
from dalif_jax.data.events.shelf import Recording, Shelf, Source, files_below, lines_of

CIFAR_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
DIGITS = tuple("0123456789")


def cifar10dvs(root, partial):
    """<class>/cifar10_<class>_<number>.aedat4 (tonic's edition) or .aedat (as published).

    There is no official split. Of each class the first nine tenths by number are the training set
    (0..899 of 1,000), the rest the test set, the split of the public code.
    """
    how = (
        "Get tonic's edition with --download, or the ten archives as published from "
        "https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671, and unpack them there"
    )
    candidates = [root, root / "CIFAR10DVS", root / "extract", root / "CIFAR10DVS" / "extract"]
    shelf = Shelf()
    folder = shelf.find("cifar10dvs", candidates, CIFAR_CLASSES, how)
    found = {".aedat4": [], ".aedat": []}
    for label, cls in enumerate(CIFAR_CLASSES):
        for path in files_below(folder / cls):
            number = re.search(r"(\d+)$", path.stem, re.A)
            named = {other for other in CIFAR_CLASSES if other in path.stem}
            if path.suffix.lower() not in found or not number:
                shelf.leave(path, "not named like a recording")
            elif named and cls not in named:
                shelf.leave(path, "named after another class")
            elif int(number[1]) > 999:
                shelf.leave(path, "with a number that the set does not have")
            else:
                found[path.suffix.lower()].append(((label, int(number[1])), path))
    for path in sorted([*folder.glob("*.[aA]*"), *folder.glob("*/*.[aA]*")]):
        if path.parent.name not in CIFAR_CLASSES and path.name.lower().startswith("cifar10_"):
            shelf.leave(path, "in a folder that is no class")
    suffix = max(found, key=lambda suffix: len(found[suffix]))
    for key, path in found.pop(suffix):
        shelf.add(key, path)
    for rows in found.values():
        for _, path in rows:
            shelf.leave(path, "of the other edition")
    train, test, missing = [], [], []
    for label, cls in enumerate(CIFAR_CLASSES):
        missing += [
            f"{folder}/{cls}/cifar10_{cls}_{number}{suffix}"
            for number in range(1000)
            if (label, number) not in shelf.files
        ]
        ordered = [shelf.files[key] for key in sorted(shelf.files) if key[0] == label]
        reader = "aedat4" if suffix == ".aedat4" else "aedat2"
        for rank, path in enumerate(ordered):
            split = train if rank < len(ordered) * 9 // 10 else test
            split.append(Recording(reader, str(path), label))
    shelf.settle("cifar10dvs", missing, partial, how)
    edition = "AEDAT-4, tonic's edition" if suffix == ".aedat4" else "AEDAT-2, as published"
    splits = {"train": train, "test": test}
    left_out = tuple(shelf.left_out)
    return Source("cifar10dvs", edition, (128, 128), 10, splits, folder, left_out, 10_000)


def dvsgesture(root, partial):
    """DVS128 Gesture as published: AEDAT 3.1 trials, cut by their label files.

    trials_to_train.txt and trials_to_test.txt give the official split by user; a row of
    `<trial>_labels.csv` is a sample: class 1..11, start and end in us, start <= t < end. That makes
    1,176 and 288 samples, as SpikingJelly and snnTorch count them too (SpikingJelly 2.0,
    datasets/dvs128_gesture.py); the 98.61 % of the paper is 284 of 288.
    """
    how = (
        "Get DvsGesture.tar.gz from "
        "https://ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8/folder/50167556794 (a page, so "
        "it cannot be downloaded for you) and unpack it there: tar xzf DvsGesture.tar.gz"
    )
    candidates = [root, root / "DvsGesture", root / "DVSGesture", root / "extract" / "DvsGesture"]
    shelf = Shelf()
    folder = shelf.find("dvsgesture", candidates, ["trials_to_train.txt"], how)
    splits, missing, listed = {}, [], set()
    for split, expected in (("train", 1176), ("test", 288)):
        listing, splits[split] = folder / f"trials_to_{split}.txt", []
        if not listing.is_file():
            raise DataError(f"dvsgesture: {listing} is missing. {how}")
        for trial in filter(None, map(str.strip, lines_of(listing))):
            path = folder / trial
            labels = folder / f"{path.stem}_labels.csv"
            absent = [str(p) for p in (path, labels) if not p.is_file()]
            missing += absent
            listed.add(path)
            if path.is_file() and not labels.is_file():
                shelf.leave(path, "without its label file")
            elif not absent and shelf.add(trial, path):
                splits[split] += _gesture_rows(path, labels, shelf)
        if len(splits[split]) != expected:
            missing.append(
                f"{split}: the label files hold {len(splits[split])} samples, the published set "
                f"{expected}"
            )
    for path in sorted(folder.iterdir()):
        if path.suffix.lower().startswith(".aedat") and path not in listed:
            shelf.leave(path, "a recording that no list names")
    shelf.settle("dvsgesture", missing, partial, how)
    edition, left_out = "AEDAT 3.1, as published", tuple(shelf.left_out)
    return Source("dvsgesture", edition, (128, 128), 11, splits, folder, left_out, 1464)


def _gesture_rows(path, labels, shelf):
    rows = {}
    for number, line in enumerate(lines_of(labels), 1):
        # Editors and spreadsheets end a file with empty rows: "", or commas alone.
        fields = [field.strip().strip('"') for field in line.split(",")]
        if not any(fields) or (number == 1 and fields[0].lower() == "class"):
            continue
        try:
            label, start, stop = map(int, fields[:3])
        except ValueError as error:
            raise DataError(
                f"dvsgesture: {labels} line {number}: {line!r} is not class,start,end"
            ) from error
        if (label, start, stop) in rows:
            shelf.leave(f"{labels} line {number}", "a label row that stands there twice")
        rows.setdefault((label, start, stop), number - 1)
    return [
        Recording("aedat3", str(path), label - 1, start, stop, number)
        for (label, start, stop), number in rows.items()
    ]


def dvsgesture_tonic(root, partial):
    """DVS128 Gesture in tonic's edition: fewer samples (1,077 and 264), milliseconds.

    Not the published protocol: its test set is another one.
    """
    how = "Get it with --download, through tonic"
    candidates = [root / "DVSGesture", root]
    folders = {"train": "ibmGestureTrain", "test": "ibmGestureTest"}
    shelf = Shelf()
    folder = shelf.find("dvsgesture_tonic", candidates, list(folders.values()), how)
    splits, missing = {}, []
    for split, inside in folders.items():
        for path in files_below(folder / inside):
            trial = re.fullmatch(r"user(\d+)_(\w+)", path.parent.name, re.A)
            label = re.fullmatch(r"\d+", path.stem, re.A)
            if path.suffix.lower() != ".npy" or not label:
                shelf.leave(path, "not named like a recording")
            elif path.parent.parent != folder / inside or not trial:
                shelf.leave(path, "in a folder that is no trial's")
            else:
                shelf.add((split, int(trial[1]), trial[2], int(label[0])), path)
    for (split, inside), expected in zip(folders.items(), (1077, 264), strict=True):
        keys = sorted(key for key in shelf.files if key[0] == split)
        splits[split] = [Recording("gesture_npy", str(shelf.files[key]), key[-1]) for key in keys]
        if len(keys) != expected:
            missing.append(f"{expected - len(keys)} of {expected} recordings in {folder / inside}")
    shelf.settle("dvsgesture_tonic", missing, partial, how)
    left_out = tuple(shelf.left_out)
    return Source(
        "dvsgesture_tonic", "tonic's edition", (128, 128), 11, splits, folder, left_out, 1341
    )


def nmnist(root, partial):
    """N-MNIST: Train/<digit>/<number>.bin and Test/<digit>/<number>.bin, 60,000 and 10,000."""
    how = (
        "Get both archives from https://www.garrickorchard.com/datasets/n-mnist and unpack them "
        "there, or use --download, through tonic"
    )
    shelf = Shelf()
    folder = shelf.find("nmnist", [root, root / "NMNIST"], ["Train", "Test"], how)
    splits, missing, sizes = {}, [], {"Train": 60_000, "Test": 10_000}
    for split, expected in sizes.items():
        for path in files_below(folder / split):
            if path.suffix.lower() != ".bin" or not re.fullmatch(r"\d+", path.stem, re.A):
                shelf.leave(path, "not named like a recording")
            elif path.parent.parent != folder / split or path.parent.name not in DIGITS:
                shelf.leave(path, "in a folder that is no digit")
            elif not 1 <= int(path.stem) <= expected:
                shelf.leave(path, "with a number that the set does not have")
            else:
                shelf.add((split, int(path.stem)), path)
    for split, expected in sizes.items():
        missing += [
            f"{folder}/{split}/<digit>/{number:05}.bin"
            for number in range(1, expected + 1)
            if (split, number) not in shelf.files
        ]
        paths = [shelf.files[key] for key in sorted(shelf.files) if key[0] == split]
        splits[split.lower()] = [
            Recording("nmnist", str(path), int(path.parent.name)) for path in paths
        ]
    shelf.settle("nmnist", missing, partial, how)
    left_out = tuple(shelf.left_out)
    return Source("nmnist", "bin, as published", (34, 34), 10, splits, folder, left_out, 70_000)


def digits_dvs(root, partial):
    """scikit-learn's digits before a simulated camera; needs no files. Splits as of `digits`."""
    splits = {
        split: [Recording("digits_dvs", f"digit/{index}", label) for index, label in pairs]
        for split, pairs in moving_digits.splits().items()
    }
    return Source(
        "digits_dvs", moving_digits.EDITION, moving_digits.SENSOR, 10, splits, published=1797
    )


LAYOUTS = {
    "cifar10dvs": cifar10dvs,
    "dvsgesture": dvsgesture,
    "dvsgesture_tonic": dvsgesture_tonic,
    "nmnist": nmnist,
    "digits_dvs": digits_dvs,
    "event_folder": event_folder,
}

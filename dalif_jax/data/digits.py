"""The digits that scikit-learn carries, read from its file: to import it takes a second."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np

PLACE = Path("datasets", "data", "digits.csv.gz")


def digits():
    """(grey levels 0..16, uint8 [1797, 8, 8]; classes, int32 [1797]), in the collection's order.

    Source: sklearn.datasets.load_digits (UCI optical recognition of digits), which is asked where
    its file is not in its place. Raises ModuleNotFoundError without scikit-learn.
    """
    found = importlib.util.find_spec("sklearn")
    if found is None:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
    path = Path(found.origin).parent / PLACE
    if path.exists():
        with gzip.open(path) as file:
            rows = np.loadtxt(file, np.uint8, delimiter=",")
        images, labels = rows[:, :-1].reshape(-1, 8, 8), rows[:, -1]
    else:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images, labels = bunch.images.astype(np.uint8), bunch.target
    return images, labels.astype(np.int32)

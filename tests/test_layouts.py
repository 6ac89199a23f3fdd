"""The event data sets as folders: which sample a file is, and that none is lost without a word."""

import numpy as np
import pytest
import tonic
from event_files import draw_events, write_gesture, write_gesture_npy

from dalif_jax import aedat, layouts, recordings
from dalif_jax.events import BadRecording, DataError


def test_cifar10dvs_is_split_by_number_and_never_overlaps(tmp_path):
    """The first nine tenths of each class, in the order of the numbers, not of the names."""
    for cls in layouts.CIFAR_CLASSES:
        folder = tmp_path / "CIFAR10DVS" / cls
        folder.mkdir(parents=True)
        for number in np.random.default_rng(0).permutation(1000):
            (folder / f"cifar10_{cls}_{number}.aedat4").touch()
    source = recordings.find("cifar10dvs", tmp_path)
    numbers = {
        split: [int(row.path.split("_")[-1].split(".")[0]) for row in rows]
        for split, rows in source.splits.items()
    }
    assert numbers["train"] == list(range(900)) * 10
    assert numbers["test"] == list(range(900, 1000)) * 10
    assert [row.label for row in source.splits["test"]] == np.repeat(range(10), 100).tolist()
    train, test = ({row.path for row in rows} for rows in source.splits.values())
    assert not train & test and len(train | test) == 10_000

    (tmp_path / "CIFAR10DVS" / "cat" / "cifar10_cat_17.aedat4").unlink()
    with pytest.raises(DataError, match=r"cifar10_cat_17.aedat4\n.*--download"):
        recordings.find("cifar10dvs", tmp_path)
    assert len(recordings.find("cifar10dvs", tmp_path, partial=True).splits["train"]) == 8999


def gesture_folder(root, trials, rows=12, shift=0):
    def rows_of(name):
        seen = draw_events(2400, seed=sum(map(ord, name)), span=12_000)
        labels = [*range(1, 9), 8, 9, 10, 11][:rows]
        return seen, [(k, 1000 * i, 1000 * (i + 1) + shift) for i, k in enumerate(labels)]

    return write_gesture(root, trials, rows_of)


def test_dvsgesture_has_the_published_counts(tmp_path):
    """98 and 24 trials of 12 samples; class 8 twice, as in the label files."""
    trials = {"train": 98, "test": 24}
    names = {s: [f"user{s}{i:02}_led" for i in range(n)] for s, n in trials.items()}
    gesture_folder(tmp_path, names)
    source = recordings.find("dvsgesture", tmp_path)
    assert [len(rows) for rows in source.splits.values()] == [1176, 288]
    assert np.bincount([row.label for row in source.splits["test"]]).tolist() == [24] * 7 + [
        48, 24, 24, 24,
    ]  # fmt: skip
    # Rows of one trial are its events from start to before end, all of them here.
    rows = source.splits["train"][:12]
    cut = [recordings.read(row, source) for row in rows]
    whole = aedat.read_aedat3(rows[0].path)
    np.testing.assert_array_equal(np.concatenate(cut), whole)
    for row, part in zip(rows, cut, strict=True):
        assert row.start <= part["t"].min() and part["t"].max() < row.stop

    (tmp_path / "DvsGesture" / f"{names['test'][3]}_labels.csv").unlink()
    with pytest.raises(DataError, match=r"usertest03_led_labels\.csv"):
        recordings.find("dvsgesture", tmp_path)


def test_bad_rows_of_dvsgesture(tmp_path):
    folder = gesture_folder(tmp_path, {"train": ["a"], "test": ["b"]})
    labels = folder / "a_labels.csv"
    with pytest.raises(DataError, match="hold 12 samples, the published set 1176"):
        recordings.find("dvsgesture", tmp_path)
    for row, message in (
        ("12,0,1000", r"label 11 outside 0\.\.10"),
        ("1,1000,1000", "zero length: from 1000 to 1000 us"),
        ("1,50000000,60000000", "no events"),
    ):
        labels.write_text(f"class,start,end\n{row}\n")
        source = recordings.find("dvsgesture", tmp_path, partial=True)
        with pytest.raises(BadRecording, match=message):
            recordings.read(source.splits["train"][0], source)
    labels.write_text("class,start,end\n1,zero,1\n")
    with pytest.raises(DataError, match=r"a_labels.csv line 2: '1,zero,1'"):
        recordings.find("dvsgesture", tmp_path, partial=True)


def test_tonics_edition_of_gesture_is_named_as_such(tmp_path):
    for split, count in (("Train", 1), ("Test", 1)):
        folder = tmp_path / "DVSGesture" / f"ibmGesture{split}" / "user01_led"
        folder.mkdir(parents=True)
        for label in (10, 2)[: count + 1]:
            write_gesture_npy(folder / f"{label}.npy", draw_events(300))
    with pytest.raises(DataError, match="1075 of 1077 recordings"):
        recordings.find("dvsgesture_tonic", tmp_path)
    source = recordings.find("dvsgesture_tonic", tmp_path, partial=True)
    assert source.edition == "tonic's edition"
    assert [row.label for row in source.splits["train"]] == [2, 10]
    # As tonic itself reads the file.
    (tmp_path / "DVSGesture" / "ibmGestureTrain.tar.gz").touch()
    own = tonic.datasets.DVSGesture
    own = type("DVSGesture", (own,), {"_check_exists": lambda self: True})(save_to=str(tmp_path))
    theirs = {target: index for index, target in enumerate(own.targets)}
    for row in source.splits["train"]:
        seen, _ = own[theirs[row.label]]
        ours = recordings.read(row, source)
        for name in "txyp":
            np.testing.assert_array_equal(ours[name], seen[name])


@pytest.mark.parametrize("name", ["cifar10dvs", "dvsgesture", "dvsgesture_tonic", "nmnist"])
def test_a_missing_set_says_where_it_was_looked_for_and_how_to_get_it(tmp_path, name):
    with pytest.raises(DataError, match=f"(?s){name} was not found.*{tmp_path}.*Get "):
        recordings.find(name, tmp_path)


def test_a_download_never_replaces_a_file(tmp_path):
    folder = tmp_path / "CIFAR10DVS"
    folder.mkdir()
    (folder / "CIFAR10DVS.zip").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"CIFAR10DVS\.zip is there already"):
        recordings.download("cifar10dvs", tmp_path)
    assert (folder / "CIFAR10DVS.zip").read_bytes() == b"mine"
    with pytest.raises(DataError, match="dvsgesture cannot be downloaded"):
        recordings.download("dvsgesture", tmp_path)

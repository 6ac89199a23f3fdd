"""The event data sets as folders: which sample a file is, and that none is lost without a word."""

import data_campaign
import numpy as np
import pytest
import tonic
from event_files import draw_events, write_gesture, write_gesture_npy

from dalif_jax.data.events import aedat, layouts, recordings
from dalif_jax.data.events.events import BadRecording, DataError


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
    with pytest.raises(DataError, match=f"(?s){name} was not found.*{tmp_path}.*Get ") as caught:
        recordings.find(name, tmp_path)
    # Whichever program asked.
    assert "--config.data_dir=FOLDER of train.py" in str(caught.value)
    assert "--data_dir=FOLDER of eval.py" in str(caught.value)


def test_a_download_never_replaces_a_file(tmp_path):
    folder = tmp_path / "CIFAR10DVS"
    folder.mkdir()
    (folder / "CIFAR10DVS.zip").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"CIFAR10DVS\.zip is there already"):
        recordings.download("cifar10dvs", tmp_path)
    assert (folder / "CIFAR10DVS.zip").read_bytes() == b"mine"
    with pytest.raises(DataError, match="dvsgesture cannot be downloaded"):
        recordings.download("dvsgesture", tmp_path)


# ---- Nothing is lost without a word.


def test_every_file_is_a_sample_or_named_among_those_left_out(tmp_path):
    found = data_campaign.lost_samples(tmp_path, 15)
    assert found["folders"] == 45 and found["left_out"] >= 40 and found["unaccounted"] == 0


def whole_gesture(root):
    """Empty files in the places of tonic's edition, all 1,341 of them."""
    for split, count in (("Train", 1077), ("Test", 264)):
        for number in range(count):
            trial = root / f"ibmGesture{split}" / f"user{number // 11:02}_led"
            trial.mkdir(parents=True, exist_ok=True)
            (trial / f"{number % 11}.npy").write_bytes(b"%d" % number)
    return root / "ibmGestureTrain" / "user03_led"


def test_a_whole_set_is_not_refused_for_strays_but_for_doubt(tmp_path, capsys):
    trial = whole_gesture(tmp_path)
    recordings.find("dvsgesture_tonic", tmp_path)
    assert capsys.readouterr().out.endswith(f"{tmp_path}: 1,341 samples used\n")
    for name in ("4 (1).npy", "notes.txt", ".DS_Store", "._4.npy"):
        (trial / name).write_bytes(b"")
    source = recordings.find("dvsgesture_tonic", tmp_path)
    assert len(source.left_out) == 2 and sum(map(len, source.splits.values())) == 1341
    out = capsys.readouterr().out
    assert "1,341 samples used; 2 left out: 2 not named like a recording (e.g. " in out
    # Two files for one sample: which is right?
    (trial / "04.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"(?s)is in doubt.*4\.npy: a second one for the same "):
        recordings.find("dvsgesture_tonic", tmp_path)
    source = recordings.find("dvsgesture_tonic", tmp_path, partial=True)
    assert "1 a second one for the same sample (" in capsys.readouterr().out
    assert sum(map(len, source.splits.values())) == 1341
    # A sample that is a link to another is missing, and in two splits it would leak.
    (trial / "04.npy").unlink()
    (trial / "5.npy").unlink()
    (trial / "5.npy").symlink_to(tmp_path / "ibmGestureTest" / "user01_led" / "5.npy")
    with pytest.raises(DataError, match=r"(?s)1 of 1077.*5\.npy: another name of a file"):
        recordings.find("dvsgesture_tonic", tmp_path)


def test_a_capital_extension_is_read_and_an_empty_class_is_said(tmp_path, capsys):
    for cls in layouts.CIFAR_CLASSES[1:]:
        (tmp_path / cls).mkdir()
        for number in range(10):
            suffix = "AEDAT" if number % 2 else "aedat"
            (tmp_path / cls / f"cifar10_{cls}_{number}.{suffix}").touch()
    (tmp_path / "airplane").mkdir()
    (tmp_path / "Airplane2").mkdir()
    (tmp_path / "Airplane2" / "cifar10_airplane_0.aedat").touch()
    (tmp_path / "cat" / "cifar10_dog_3.aedat").touch()
    (tmp_path / "cat" / "cifar10_cat_3.aedat4").touch()
    source = recordings.find("cifar10dvs", tmp_path, partial=True)
    assert {split: len(rows) for split, rows in source.splits.items()} == {"train": 81, "test": 9}
    out = capsys.readouterr().out
    for part in (
        "90 samples used", "3 left out", "1 in a folder that is no class", "1 of the other edition",
        "1 named after another class", "the published set has 10,000",
        "train has nothing of class 0", "test has nothing of class 0",
    ):  # fmt: skip
        assert part in out
    with pytest.raises(DataError, match=r"(?s)Missing:.*cifar10_airplane_0.aedat.*9,910 in all"):
        recordings.find("cifar10dvs", tmp_path)


def test_a_folder_that_is_not_looked_into_is_named(tmp_path, capsys):
    for root in (tmp_path, tmp_path / "NMNIST"):
        for path in data_campaign.some_nmnist(root):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    recordings.find("nmnist", tmp_path, partial=True)
    assert f"1 a folder of the same set, not looked into ({tmp_path / 'NMNIST'})" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + "\n",
        lambda text: text + ",,\r\n , \r\n",
        lambda text: "\ufeff" + text,
        lambda text: text.partition("\n")[2],  # without the line that names the columns
        lambda text: text.replace(",", " , ").replace("class", "Class"),
        lambda text: text.replace("1,0,", '"1","0",'),
    ],
    ids=["CRLF", "empty line", "empty cells", "BOM", "no names", "spaces", "quotes"],
)
def test_label_files_of_any_editor_are_read_whole(tmp_path, change):
    folder = gesture_folder(tmp_path, {"train": ["a"], "test": ["b"]})
    before = recordings.find("dvsgesture", tmp_path, partial=True).splits
    for path in [*folder.glob("*.csv"), *folder.glob("trials*.txt")]:
        text = path.read_text()
        text = change(text) if path.suffix == ".csv" else "\ufeff" + text.replace("\n", "\r\n")
        path.write_bytes(text.encode())
    after = recordings.find("dvsgesture", tmp_path, partial=True).splits
    keys = [[(row[:-1]) for row in rows] for rows in (*before.values(), *after.values())]
    assert len(keys[0]) == 12 and keys[:2] == keys[2:]


def test_what_the_lists_of_gestures_leave_out_is_said(tmp_path, capsys):
    folder = gesture_folder(tmp_path, {"train": ["a", "c"], "test": ["b"]})
    (folder / "d.aedat").write_bytes((folder / "a.aedat").read_bytes())
    (folder / "c_labels.csv").unlink()
    with open(folder / "a_labels.csv", "a") as file:
        file.write("1,0,1000\n")
    with open(folder / "trials_to_test.txt", "a") as file:
        file.write("a.aedat\n")
    source = recordings.find("dvsgesture", tmp_path, partial=True)
    assert [len(rows) for rows in source.splits.values()] == [12, 12]
    out = capsys.readouterr().out
    for part in (
        "24 samples used; 4 left out", f"without its label file ({folder / 'c.aedat'})",
        f"stands there twice ({folder / 'a_labels.csv'} line 14)",
        f"a recording that no list names ({folder / 'd.aedat'})",
        f"a second one for the same sample ({folder / 'a.aedat'}, {folder / 'a.aedat'})",
    ):  # fmt: skip
        assert part in out, out
    (folder / "trials_to_test.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"trials_to_test\.txt cannot be read as text"):
        recordings.find("dvsgesture", tmp_path, partial=True)


def test_a_home_that_is_not_there_is_one_line():
    with pytest.raises(DataError, match=r"data_dir=~nobody-of-that-name/x: .*--config\.data_dir="):
        recordings.find("nmnist", "~nobody-of-that-name/x")

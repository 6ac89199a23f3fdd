"""ImageNet's records, in both formats, whole or damaged."""

import json
import os
import pickle
import sys

import imagenet_files
import numpy as np
import pytest
from imagenet_sets import TRAIN, VALIDATION, load, root, same, tfrecord  # noqa: F401  fixtures

from dalif_jax.data import records, sets
from dalif_jax.data.events.events import DataError


def test_every_format_gives_the_files_that_went_in(root):
    splits = load(root)
    assert {name: len(split) for name, split in splits.items()} == {"train": 22, "test": 5}
    for split, made in (("train", TRAIN), ("test", VALIDATION)):
        opened = splits[split].records
        examples = [opened.example(i) for i in range(len(made))]
        by_name = {e["file_name"].decode(): (e["image"], e["label"]) for e in examples}
        assert by_name == {f"{i:06d}.JPEG": pair for i, pair in enumerate(made)}
    again = pickle.loads(pickle.dumps(splits["test"]))
    same([again.test_example(3)], [splits["test"].test_example(3)])
    assert "tensorflow" not in sys.modules


def test_a_second_start_reads_the_kept_index(tfrecord, capsys):
    root = tfrecord.parents[1]
    load(root)
    assert "looking up" in capsys.readouterr().out
    load(root)
    assert "looking up" not in capsys.readouterr().out
    os.utime(next(tfrecord.glob("*train*")), (1, 1))  # another file under the old name
    load(root)
    assert capsys.readouterr().out.count("looking up") == 1
    for index in (root / "cache" / "records").glob("*train*"):
        index.write_bytes(b"damaged")
    load(root)
    assert capsys.readouterr().out.count("looking up") == 1


def test_an_index_that_cannot_be_kept_is_done_without(tfrecord, tmp_path, capsys):
    (tmp_path / "file").touch()
    splits = load(tfrecord.parents[1], cache_dir=str(tmp_path / "file" / "x"))
    assert len(splits["train"]) == 22
    out = capsys.readouterr().out
    assert out.count("where its records begin is not kept") == 2 and "--config.cache_dir=" in out


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("5.1.0.incompleteA7B9C2", False),
        ("5.1.0-old2", False),
        ("5.1.0 (1)", False),
        ("incomplete.ESNX3A_5.1.0", False),
        ("5.1", False),
        ("5.0.10", True),
    ],
)
def test_only_a_finished_version_is_read(tmp_path, name, whole):
    """Its name is N.N.N and no more; what was passed over is said where none is."""
    folder = tmp_path / "imagenet2012" / name
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    assert records.newest_version(folder.parent) == (folder if whole else None)
    if not whole:
        with pytest.raises(DataError) as caught:
            load(tmp_path)
        assert f"no finished version: {name}\n" in str(caught.value)
        assert "--data_dir=FOLDER of eval.py" in str(caught.value)
    for version in ("5.1.0", "5.0.9"):
        (folder.parent / version).mkdir()
        (folder.parent / version / "dataset_info.json").write_text("{}")
    assert records.newest_version(folder.parent).name == "5.1.0"


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
def test_what_a_newer_description_adds_is_passed_over(tfrecord, capsys, file):
    root = tfrecord.parents[1]
    before = [load(root)["train"].test_example(i) for i in (0, 21)]
    about = json.loads((tfrecord / file).read_text())
    (tfrecord / file).write_text(json.dumps(about | {"fieldOfALaterVersion": {"x": [1]}}))
    capsys.readouterr()
    split = load(root)["train"]
    same([split.test_example(i) for i in (0, 21)], before)
    out = capsys.readouterr().out
    assert "a newer tensorflow-datasets prepared" in out and '"fieldOfALaterVersion"' in out
    assert "train 22 of 1,281,167 records, validation 5 of 50,000 records" in out


def test_records_and_files_beyond_the_description_are_said_or_refused(root, capsys):
    (folder,) = (root / "imagenet2012").glob("*/")
    shard = sorted(folder.glob("*train*"))[0]
    more = shard.with_name(shard.name.replace("00000-of", "00007-of"))
    more.write_bytes(shard.read_bytes())
    load(root)
    assert f"1 files its description does not name ({more.name})" in capsys.readouterr().out
    more.unlink()
    about = (folder / "dataset_info.json").read_text()
    values = json.loads(about)
    (train,) = (split for split in values["splits"] if split["name"] == "train")
    found = int(train["shardLengths"][0])
    train["shardLengths"][0] = str(found - 1)
    (folder / "dataset_info.json").write_text(json.dumps(values))
    try:
        with pytest.raises(DataError, match=rf"holds {found} records, .* says {found - 1}"):
            load(root)
    finally:
        (folder / "dataset_info.json").write_text(about)


def test_damage_is_named_with_split_record_and_file(root):
    splits = load(root)
    opened = splits["train"].records
    path, size = opened.paths[-1], opened.paths[-1].stat().st_size
    bytes_before = path.read_bytes()
    place = bytes_before.rfind(opened.example(len(opened) - 1)["image"][-400:])
    try:
        changed = bytearray(bytes_before)
        # array_record compresses: wherever the last third is hit, its own checksum must see it.
        changed[place if place > 0 else size * 2 // 3] ^= 1
        path.write_bytes(changed)
        with pytest.raises(DataError, match=r"imagenet train: record \d+ \(.*of it\) is damaged"):
            for i in range(len(opened)):
                load(root)["train"].training_example(i, 0, 0, 0)
    finally:
        path.write_bytes(bytes_before)


def test_a_shard_that_is_cut_off_or_missing_is_named(tfrecord):
    root, shard = tfrecord.parents[1], sorted(tfrecord.glob("*train*"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-5])
    with pytest.raises(DataError, match=r"00001-of-00002 is damaged or cut off at its record 10"):
        load(root)
    shard.write_bytes(whole[: records.HEADER.size - 3])
    with pytest.raises(DataError, match=r"cut off at its record 0, byte 0"):
        load(root)
    shard.write_bytes(b"")
    with pytest.raises(DataError, match=r"holds 0 records, its dataset_info.json says 11"):
        load(root)
    shard.unlink()
    with pytest.raises(DataError, match=r"imagenet train: 1 of 2 files are missing .*00001-of-000"):
        load(root)


@pytest.mark.parametrize("seed", range(6))
def test_random_bytes_are_an_error_or_harmless(tfrecord, seed):
    """Whatever is written over a shard or its description: a DataError, or what it was before."""
    root, draw = tfrecord.parents[1], np.random.default_rng(seed)
    before = [load(root)["train"].test_example(i) for i in range(22)]
    names = ["dataset_info.json", "features.json", *(p.name for p in tfrecord.glob("*train*"))]
    path = tfrecord / names[seed % len(names)]
    changed = bytearray(path.read_bytes())
    at, count = int(draw.integers(len(changed))), int(draw.choice([1, 4, 40]))
    changed[at : at + count] = draw.bytes(count)
    path.write_bytes(changed)
    try:
        split = load(root)["train"]
        same([split.test_example(i) for i in range(22)], before)
    except DataError as error:
        assert str(tfrecord) in str(error)


def test_what_is_not_the_whole_set_is_refused(tfrecord):
    with pytest.raises(DataError, match=r"22 records of 1,281,167; --config.partial_data=True"):
        load(tfrecord.parents[1], partial=False)
    (tfrecord / "features.json").write_text("{")
    with pytest.raises(DataError, match=r"5\.1\.0 is damaged or not imagenet"):
        load(tfrecord.parents[1])


def test_a_missing_set_says_where_it_was_looked_for_and_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"ILSVRC2012_img_train\.tar") as caught:
        sets.load("imagenet", str(tmp_path))
    assert str(tmp_path / "imagenet2012") in str(caught.value)
    assert f"tfds.builder('imagenet2012', data_dir='{tmp_path}'" in str(caught.value)


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        (TRAIN[0][0][: len(TRAIN[0][0]) // 2], 1, "its image is damaged: .*truncated"),
        (b"no picture at all", 1, "its image is damaged: cannot identify"),
    ],
)
def test_a_bad_example_is_named(tmp_path, image, label, message):
    imagenet_files.prepare(tmp_path, [(image, label)], VALIDATION)
    split = load(tmp_path)["train"]
    with pytest.raises(DataError, match=r"imagenet train: record 0 \(.*\): " + message):
        split.training_example(0, 0, 0, 0)


def test_a_label_out_of_range_is_named(tfrecord):
    split = load(tfrecord.parents[1])["train"]
    split.classes = 3
    with pytest.raises(DataError, match=r"record \d+ .*label [3456] is not in 0\.\.2"):
        for i in range(22):
            split.test_example(i)

"""ImageNet: records in both formats, crops, and batches that depend on (seed, step) alone."""

import io
import json
import os
import pickle
import subprocess
import sys

import imagenet_files
import jax
import numpy as np
import pytest
from PIL import Image
from test_program import ROOT

from configs.base import get_config
from dalif_jax import training
from dalif_jax.data import feed, imagenet, records, sets
from dalif_jax.data.events.events import DataError
from dalif_jax.settings import config

TRAIN = [(imagenet_files.jpeg(i, 40 + i, 60), i % 7) for i in range(22)]
VALIDATION = [(imagenet_files.jpeg(100 + i, 50, 40), i % 7) for i in range(5)]
FORMATS = [("array_record", 1), ("array_record", 3), ("tfrecord", 1), ("tfrecord", 3)]


@pytest.fixture(scope="module", params=FORMATS, ids="{0[0]}-{0[1]}".format)
def root(request, tmp_path_factory):
    pytest.importorskip("tensorflow_datasets")
    root = tmp_path_factory.mktemp("imagenet")
    imagenet_files.prepare(root, TRAIN, VALIDATION, *request.param)
    return root


@pytest.fixture
def tfrecord(tmp_path):
    return imagenet_files.prepare(tmp_path, TRAIN, VALIDATION, "tfrecord", 2)


def load(root, **keys):
    keys = {"cache_dir": str(root / "cache"), "partial": True, "frame_size": 32} | keys
    return sets.load("imagenet", str(root), **keys)


def settings(**keys):
    c = get_config()
    c.update({"dataset": "imagenet", "model": "tiny", "frame_size": 32, "timesteps": 1})
    c.update({"batch_size": 4, "eval_batch_size": 4, "augment": ("flip",), **keys})
    config.validate(c)
    return c


def feeds(splits, c, devices=1):
    steps = len(splits["train"]) // c.batch_size
    program = training.make_program(c, steps, training.make_mesh(jax.devices()[:devices]))
    return {name: feed.feed_of(split, program, c, steps) for name, split in splits.items()}


def first(stream, count):
    return [tuple(map(np.asarray, batch[:2])) for batch, _ in zip(stream, range(count))]  # noqa: B905


def same(one, other):
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


# ---- Records.


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


def test_grey_and_cmyk_files_become_rgb(tmp_path):
    pairs = []
    for mode in ("L", "CMYK"):
        file = io.BytesIO()
        Image.fromarray(imagenet_files.photo(0)).resize((48, 48)).convert(mode).save(file, "JPEG")
        pairs.append((file.getvalue(), 0))
    imagenet_files.prepare(tmp_path, pairs, VALIDATION)
    split = load(tmp_path)["train"]
    assert [split.test_example(i)[0].shape for i in range(2)] == [(32, 32, 3)] * 2


# ---- Crops.


def test_random_boxes_are_those_of_the_definition():
    draw = imagenet.uniforms(5)
    width, height = 500, 375
    boxes = np.array([imagenet.random_box(draw, width, height) for _ in range(4000)])
    left, top, right, bottom = boxes.T
    assert left.min() == 0 == top.min() and right.max() == width and bottom.max() == height
    w, h = right - left, bottom - top
    # Rounding to pixels moves the smallest boxes' ratio by less than 2 %.
    assert (w / h).min() > 0.75 * 0.98 and (w / h).max() < 4 / 3 * 1.02
    share = w * h / (width * height)
    assert 0.078 < share.min() < 0.085 and share.max() <= 1.0
    # A share s fits with probability 1 up to 9/16, then -log(s) / (2 log(4/3)): the mean over
    # 0.08..1 is 0.4318 for an image of 4 to 3, where that of all draws would be 0.54.
    assert abs(share.mean() - 0.4318) < 0.012
    assert np.corrcoef(left / (width - w + 1), top / (height - h + 1))[0, 1] < 0.05


@pytest.mark.parametrize(
    ("size", "box"),
    [((1000, 12), (492, 0, 508, 12)), ((12, 1000), (0, 492, 12, 508))],
)
def test_a_shape_no_draw_fits_gives_the_largest_central_box(size, box):
    assert imagenet.random_box(lambda: 0.999, *size) == box


def test_the_bits_of_a_crop_never_change():
    draw = imagenet.uniforms(3407, imagenet.CROP, 12, 3)
    got = [draw() for _ in range(3)]
    assert got == [0.8278051508036974, 0.9850157784871396, 0.4727678575974006]
    assert imagenet.random_box(draw, 500, 375) == (42, 179, 184, 332)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (300, 300), (257, 1000), (100, 90)])
def test_the_evaluated_crop_is_resize_256_and_centre_224(size):
    image = Image.fromarray(imagenet_files.photo(1)).resize(size)
    short = min(size)
    resized = image.resize(
        (int(256 * size[0] / short), int(256 * size[1] / short)), Image.Resampling.BILINEAR
    )
    x, y = (round((n - 224) / 2.0) for n in resized.size)
    expected = np.asarray(resized)[y : y + 224, x : x + 224]
    np.testing.assert_array_equal(imagenet.center_crop(image, 224), expected)


# ---- Batches.


def test_a_batch_is_a_function_of_seed_and_step(tfrecord):
    splits = load(tfrecord.parents[1])
    stream = feeds(splits, settings())["train"]
    assert stream.reading.steps == 5
    whole = first(stream.train(0), 12)
    # From any step on, across the ends of epochs, and in other threads and processes.
    same(first(stream.train(3), 9), whole[3:])
    same(first(feeds(splits, settings(data_workers=2))["train"].train(3), 3), whole[3:6])
    # Labels in the order of sets.epoch_order, images as decoded by hand.
    order = np.asarray(sets.epoch_order(3407, 1, 22, 4))
    for step, (images, labels) in enumerate(whole[5:10], 5):
        for place, example in enumerate(order[step - 5]):
            image, label = splits["train"].training_example(int(example), 3407, step, place)
            np.testing.assert_array_equal(images[place], image)
            assert labels[place] == label
    assert not all(np.array_equal(a[0], b[0]) for a, b in zip(whole[:5], whole[5:10], strict=True))


def test_evaluation_gives_every_example_once(tfrecord):
    splits = load(tfrecord.parents[1])
    batches = list(feeds(splits, settings())["test"].evaluate())
    assert [np.asarray(valid).sum() for *_, valid in batches] == [4, 1]
    labels = np.concatenate([np.asarray(b[1])[np.asarray(b[3])] for b in batches])
    assert sorted(labels) == sorted(label for _, label in VALIDATION)
    np.testing.assert_array_equal(batches[1][0][0], splits["test"].test_example(4)[0])


def test_the_held_out_part_is_not_trained_on(tfrecord):
    splits = load(tfrecord.parents[1], validation_split=0.25)
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [17, 5, 5]
    assert not set(splits["train"].rows) & set(splits["validation"].rows)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_record_ends_the_stream_with_its_name(tfrecord, workers):
    splits = load(tfrecord.parents[1])
    splits["train"].classes = 3
    with pytest.raises(DataError, match=r"imagenet train: record \d+ .*label"):
        first(feeds(splits, settings(data_workers=workers))["train"].train(0), 5)


def test_eight_devices_share_a_streamed_batch(tfrecord):
    c = settings(batch_size=8, dtype="float32")
    splits = load(tfrecord.parents[1])
    one, eight = (feeds(splits, c, devices)["train"] for devices in (1, 8))
    batch = next(eight.train(1))
    assert len(batch[0].addressable_shards) == 8
    assert {shard.data.shape for shard in batch[0].addressable_shards} == {(1, 32, 32, 3)}
    same(first(one.train(1), 1), [tuple(map(np.asarray, batch[:2]))])
    program = eight.program
    text = program.train_step.lower(program.init(), *batch).compile().as_text()
    assert "all-reduce" in text
    for moved in ("all-gather", "all-to-all", "collective-permute"):
        assert moved not in text
    losses = [
        f.program.train_step(f.program.init(), *next(f.train(1)))[1]["loss"] for f in (one, eight)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_a_process_reads_only_the_places_of_its_own_devices(tfrecord):
    """Of two processes with four devices each, the second decodes the second half of each batch."""
    c, split = settings(batch_size=8), load(tfrecord.parents[1])["train"]
    read = []

    class Half(feed.Stream):
        def _spread(self, batch, *arrays):
            return arrays

    class Sharding:
        def addressable_devices_indices_map(self, shape):
            return {device: (slice(device, device + 1),) for device in (4, 5, 6, 7)}

    class Watched:
        def __init__(self, split):
            self.split = split

        def __len__(self):
            return len(self.split)

        def training_example(self, example, seed, step, place):
            read.append((step, place))
            return self.split.training_example(example, seed, step, place)

    program = training.make_program(c, 2, training.make_mesh(jax.devices()[:1]))
    reading = feed.Reading(c.seed, 2, c.batch_size, c.eval_batch_size, c.data_workers)
    half = Half(Watched(split), program._replace(sharded=Sharding()), reading)
    images = next(half.train(0))[0]
    whole = next(feed.Stream(split, program, reading).train(0))[0]
    np.testing.assert_array_equal(images, np.asarray(whole)[4:])
    assert {place for _, place in read} == {4, 5, 6, 7}


# ---- Whole runs.

RUN = ("--config.partial_data=True", "--config.frame_size=32", "--config.model=tiny",
       "--config.dtype=float32", "--config.batch_size=4", "--config.eval_batch_size=4",
       "--config.epochs=3", "--config.timesteps=1", "--config.learning_rate=0.01")  # fmt: skip


def train(root, workdir, *arguments, recipe="configs/imagenet_r34.py"):
    environment = {k: v for k, v in os.environ.items() if k != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    environment |= {"XDG_CACHE_HOME": str(root / "cache"), "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "train.py", "--config", recipe, "--workdir", str(workdir),
         f"--config.data_dir={root}", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=500, env=environment,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_a_damaged_record_in_training_loses_nothing(tfrecord, tmp_path):
    root, shard = tfrecord.parents[1], sorted(tfrecord.glob("*train*"))[0]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    status = shard.stat()
    code, out = train(root, tmp_path / "run", *RUN)
    assert code == 2 and "Traceback" not in out, out
    assert "error: imagenet train: record 0 (" in out and "checksum does not match" in out
    shard.write_bytes(whole)
    os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns))
    code, out = train(root, tmp_path / "run", *RUN)
    assert code == 0, out
    code, out = train(root, tmp_path / "other", *RUN)
    assert code == 0, out
    files = [tmp_path / name / "eval.json" for name in ("run", "other")]
    assert files[0].read_text() == files[1].read_text()


@pytest.mark.slow
def test_the_recipe_runs_as_it_is_on_the_real_layout(tfrecord, tmp_path):
    """ResNet-34, T = 4, bfloat16, 224 x 224; only the batch is small."""
    code, out = train(
        tfrecord.parents[1], tmp_path / "run", "--config.partial_data=True", "--config.epochs=1",
        "--config.batch_size=11", "--config.eval_batch_size=5",
    )  # fmt: skip
    assert code == 0 and "21797738 parameters" in out.replace(",", ""), out

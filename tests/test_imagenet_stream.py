"""ImageNet streamed: batches that are a function of seed and step, on any number of devices."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import ROOT
from imagenet_sets import VALIDATION, load, root, same, tfrecord  # noqa: F401  fixtures

from configs.base import get_config
from dalif_jax import training
from dalif_jax.data import feed, sets
from dalif_jax.data.events.events import DataError
from dalif_jax.settings import config


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


def test_a_batch_is_a_function_of_seed_and_step(tfrecord):
    splits = load(tfrecord.parents[1])
    stream = feeds(splits, settings())["train"]
    assert stream.reading.steps == 5
    whole = first(stream.train(0), 12)
    # From any step on, across the ends of epochs, and in other threads and processes.
    same(first(stream.train(3), 9), whole[3:])
    same(first(feeds(splits, settings(data_workers=2))["train"].train(3), 3), whole[3:6])
    # A stream's processes end with its use, and their locks: none waits for a collection.
    assert not multiprocessing.active_children()
    assert not list(Path("/dev/shm").glob(f"*-{os.getpid()}-*"))
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
    environment = os.environ | {
        "XDG_CACHE_HOME": str(root / "cache"),
        "XLA_FLAGS": "",
        "JAX_PLATFORMS": "cpu",
    }
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

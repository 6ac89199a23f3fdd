"""What the processes of one run compare, and how an error in one reaches all."""

import itertools
import json
import threading

import numpy as np
import pytest
from small_run import config_of

from dalif_jax.data import sets
from dalif_jax.runs import cluster
from dalif_jax.settings import config


class Store:
    """The key-value store of two processes in two threads of this one."""

    def __init__(self):
        self.values, self.barrier = {}, threading.Barrier(2)

    def key_value_set(self, key, value, allow_overwrite=False):
        assert allow_overwrite or key not in self.values
        self.values[key] = value

    def blocking_key_value_get(self, key, timeout_ms):
        if key not in self.values:
            raise RuntimeError("DEADLINE_EXCEEDED: GetKeyValue() timed out")
        return self.values[key]

    def key_value_dir_get(self, prefix):
        return [(key, value) for key, value in list(self.values.items()) if key.startswith(prefix)]

    def wait_at_barrier(self, name, timeout_ms):
        self.barrier.wait(10)


@pytest.fixture
def two(monkeypatch):
    """Run a function as two processes, in threads; returns what each returned or raised."""
    ranks, store = threading.local(), Store()
    monkeypatch.setattr(cluster, "size", lambda: 2)
    monkeypatch.setattr(cluster, "rank", lambda: ranks.value)
    monkeypatch.setattr(cluster.distributed.global_state, "client", store)
    counts = [itertools.count(), itertools.count()]
    monkeypatch.setattr(
        cluster, "_barriers", map(lambda _: next(counts[ranks.value]), itertools.count())
    )

    def run(function):
        results = [None, None]

        def process(rank):
            ranks.value = rank
            try:
                results[rank] = function(rank)
            except Exception as error:
                results[rank] = error

        threads = [threading.Thread(target=process, args=(rank,)) for rank in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        return results

    return run


CHANGES = {
    "label_smoothing": 0.9, "epochs": 7, "seed": 5, "learning_rate": 0.3, "augment": (),
    "dtype": "float64", "keep": 9,
}  # fmt: skip


@pytest.mark.parametrize("key", CHANGES)
def test_agree_settings_differ_names_key_and_values(two, key):
    def process(rank):
        settings = config_of(**({key: CHANGES[key]} if rank else {}))
        cluster.agree("settings", cluster.run_description(settings, "runs/x"))

    plain = config.to_json(config_of())[key]
    for error in two(process):
        assert isinstance(error, config.ConfigError)
        changed = json.loads(json.dumps(CHANGES[key]))
        assert f"  {key}: {plain!r} in process 0, {changed!r} in process 1" in str(error)


@pytest.mark.parametrize(
    ("name", "line"),
    [("jax", "version of jax: "), ("python", "version of Python: "), ("workdir", "--workdir: ")],
)
def test_agree_versions_differ_are_refused(two, monkeypatch, name, line):
    def process(rank):
        values = cluster.run_description(
            config_of(), "runs/y" if rank and name == "workdir" else "r"
        )
        if rank and name != "workdir":
            values[line[:-2]] = "0.0.1"
        cluster.agree("settings", values)

    assert all(line in str(error) for error in two(process))


def test_agree_data_paths_may_differ(two):
    def process(rank):
        settings = config_of(data_dir=f"/data{rank}", cache_dir=f"/cache{rank}")
        cluster.agree("settings", cluster.run_description(settings, "runs/x"))
        return "agreed"

    assert two(process) == ["agreed", "agreed"]


def test_agree_other_process_failed_ends_the_wait(two):
    def process(rank):
        if rank:
            cluster.announce("no data")
        else:
            cluster.agree("data", {})

    error, _ = two(process)
    assert isinstance(error, cluster.PeerError) and "process 1 ended with an error: no data" in str(
        error
    )


def splits(change=lambda images, labels: None):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 9, (20, 4, 4, 1), np.uint8), np.arange(20, dtype=np.int32)
    change(images, labels)
    return {"train": sets.Split(images, labels), "test": sets.Split(images[:5], labels[:5])}


def test_data_digest_one_pixel_or_label_changes_it():
    def pixel(images, labels):
        images[11, 2, 3, 0] ^= 1

    def label(images, labels):
        labels[19] = 0

    plain = cluster.data_digest(splits())
    assert plain == cluster.data_digest(splits())
    for change, name in ((pixel, "train images"), (label, "train labels")):
        (line,) = cluster.differences([plain, cluster.data_digest(splits(change))])
        assert line.strip().startswith(name)


class Feed:
    """A streamed feed of five batches; one process cannot read the fourth."""

    examples, example = 5, None

    def train(self, step):
        for number in range(step, 5):
            if number == 3 and cluster.rank():
                raise sets.DataError("record 3 is damaged")
            yield number

    evaluate = lambda self: self.train(0)  # noqa: E731


def test_agreed_feed_error_in_one_stops_all_at_the_same_batch(two):
    def process(rank):
        seen = []
        try:
            for batch in cluster.AgreedFeed(Feed()).train(1):
                seen.append(batch)
        except sets.DataError as error:
            return seen, str(error)

    assert two(process) == [
        ([1, 2], "process 1 ended with an error: record 3 is damaged"),
        ([1, 2], "record 3 is damaged"),
    ]

"""Checkpoints: bit-equal, on any sharding, the newest and the best kept, a kill harmless."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import checkpoint_campaign
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoint_campaign import MIXED, later_of_another_run, small, small_like, written
from jax.sharding import NamedSharding, PartitionSpec

import dalif_jax
from dalif_jax.runs import seal, step_folders
from dalif_jax.runs.checkpoint import CheckpointError, Checkpoints, Damaged
from dalif_jax.training import make_mesh

ROOT = Path(__file__).resolve().parent.parent


def state(value=0.0):
    rng = np.random.default_rng(0)
    return {
        "kernel": jnp.asarray(rng.normal(size=(64, 33)) + value, jnp.float32),
        "half": jnp.asarray(rng.normal(size=(40,)), jnp.bfloat16),
        "step": jnp.int32(7),
        "scalar": jnp.float32(value),
        "none": None,
    }


def like(devices):
    replicated = NamedSharding(make_mesh(jax.devices()[:devices]), PartitionSpec())
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), state()
    )


def test_restored_bit_equal_onto_other_devices(tmp_path):
    with Checkpoints(tmp_path / "c", 2) as checkpoints:
        checkpoints.save(3, state(1.5), 0.5)
        checkpoints.finish()
        for devices in (1, 4, 8):
            restored, _ = checkpoints.restore(3, like(devices))
            assert len(restored["kernel"].sharding.device_set) == devices
            for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state(1.5)), strict=True):
                assert a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_the_newest_and_the_best_are_kept(tmp_path):
    with Checkpoints(tmp_path / "c", 2) as checkpoints:
        assert checkpoints.newest() is None and checkpoints.best() is None
        for step, score in enumerate([0.1, 0.9, None, 0.3, 0.2, None], 1):
            checkpoints.save(step, state(step), score)
        checkpoints.finish()
        assert checkpoints.steps() == [2, 5, 6]
        assert checkpoints.newest() == 6 and checkpoints.best() == 2
        assert checkpoints.restore(2, like(1))[0]["scalar"] == 2
    with Checkpoints(tmp_path / "c", 2, create=False) as checkpoints:
        assert checkpoints.newest() == 6 and checkpoints.best() == 2


def test_without_scores_there_is_no_best(tmp_path):
    with Checkpoints(tmp_path / "c", 1) as checkpoints:
        checkpoints.save(1, state())
        checkpoints.finish()
        assert checkpoints.newest() == 1 and checkpoints.best() is None


def test_a_saved_state_may_be_donated_at_once(tmp_path):
    """The next step overwrites the buffers while the save is still being written."""
    step = jax.jit(lambda x: x * 1.5 + 1, donate_argnums=0)
    x = step(jnp.arange(2_000_000.0))
    expected = np.array(x)
    with Checkpoints(tmp_path / "c", 1) as checkpoints:
        checkpoints.save(1, {"x": x})
        for _ in range(5):
            x = step(x)
        checkpoints.finish()
        spec = {"x": jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)}
        np.testing.assert_array_equal(checkpoints.restore(1, spec)[0]["x"], expected)


def test_errors_name_step_and_folder(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        Checkpoints(tmp_path / "nowhere", 1, create=False)
    with Checkpoints(tmp_path / "c", 3) as checkpoints:
        checkpoints.save(2, state())
        checkpoints.finish()
        with pytest.raises(CheckpointError, match="step 1 was not saved"):
            checkpoints.save(1, state())
        with pytest.raises(CheckpointError, match=f"step 9 of {tmp_path}"):
            checkpoints.restore(9, like(1))


KILLED = """
import sys, time, jax.numpy as jnp
from dalif_jax.runs.checkpoint import Checkpoints
with Checkpoints(sys.argv[1], 3) as checkpoints:
    checkpoints.save(1, {"x": jnp.full((1000,), 1.0)})
    checkpoints.finish()
    print("one", flush=True)
    checkpoints.save(2, {"x": jnp.arange(60_000_000.0)})
    print("two", flush=True)
    time.sleep(60)
"""


def test_a_kill_during_a_save_leaves_the_step_before(tmp_path):
    folder = tmp_path / "c"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "one\n"
    deadline = time.monotonic() + 60
    while not list(folder.glob("2.orbax-checkpoint-tmp*")) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / "2").exists(), "the save was over before the kill"
    with Checkpoints(folder, 3) as checkpoints:
        assert checkpoints.newest() == 1
        one = make_mesh(jax.devices()[:1])
        spec = jax.ShapeDtypeStruct(
            (1000,), jnp.float32, sharding=NamedSharding(one, PartitionSpec())
        )
        assert (checkpoints.restore(1, {"x": spec})[0]["x"] == 1.0).all()
        checkpoints.save(2, {"x": jnp.zeros(1000)})
        checkpoints.finish()
        assert checkpoints.newest() == 2


# ---- The best is the first of the highest scores, kept whatever comes.


@pytest.mark.parametrize(
    ("scores", "best"),
    [([0.5, 0.9, 0.9, 0.3], 2), ([0.2, 0.2, 0.2], 1), ([None, 0.1, None, 0.1], 2), ([0.1, 0.7], 2)],
)
def test_of_equal_scores_the_first_is_the_best_and_stays(tmp_path, scores, best):
    with Checkpoints(tmp_path / "c", 1) as checkpoints:
        assert checkpoints.best_score() == float("-inf")
        for step, score in enumerate(scores, 1):
            checkpoints.save(step, {"x": jnp.full(4, float(step))}, score)
            so_far = [s for s in scores[:step] if s is not None]
            assert checkpoints.best_score() == max(so_far, default=float("-inf"))
        checkpoints.finish()
        assert checkpoints.best() == best
        assert checkpoints.steps() == sorted({best, len(scores)})


def test_a_saved_step_is_given_its_score_and_its_arrays_stay(tmp_path):
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    spec = {"x": jax.ShapeDtypeStruct((4,), jnp.float32, sharding=one)}
    with Checkpoints(tmp_path / "c", 1) as checkpoints:
        checkpoints.save(1, {"x": jnp.arange(4.0)}, 0.5)
        checkpoints.save(2, {"x": jnp.arange(4.0) + 1}, extra={"unread": [1]})
        checkpoints.complete(2, 0.75)
        assert (checkpoints.best(), checkpoints.best_score()) == (2, 0.75)
    with Checkpoints(tmp_path / "c", 1) as checkpoints:
        step, found, extra = checkpoints.restore_newest(spec)
        assert (step, extra, checkpoints.steps()) == (2, None, [2])
        assert (found["x"] == jnp.arange(4.0) + 1).all()


# ---- A save that no one can read.


def flip(folder):
    chunk = max((folder / "state").rglob("*"), key=lambda p: p.is_file() and p.stat().st_size)
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 4
    chunk.write_bytes(data)


def another_record(folder):
    (folder / "record" / "metadata").write_text("{}")


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize("damage", [flip, another_record, emptied])
def test_a_save_that_cannot_be_read_back_is_reported_and_the_one_before_stays(
    tmp_path, capsys, damage
):
    """The disk loses the second save as soon as it is written; just one is to be kept."""

    class Rotten(Checkpoints):
        def _read_back(self, step, *about):
            self._manager.wait_until_finished()
            if step == 2:
                damage(self.folder / "2")
            super()._read_back(step, *about)

    with Rotten(tmp_path / "c", 1) as checkpoints:
        checkpoints.save(1, small(1))
        checkpoints.save(2, small(2))
        with pytest.raises(CheckpointError, match="step 2 could not be saved"):
            checkpoints.finish()
        assert checkpoints.steps() == [1]
        assert (checkpoints.restore(1, small_like())[0]["x"] == small(1)["x"]).all()
        checkpoints.save(3, small(3))
        checkpoints.finish()
        assert checkpoints.steps() == [3]
    told = capsys.readouterr().err
    assert "Training goes on" in told and "2.corrupt" in told
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["2.corrupt", "3"]


def test_what_the_library_saves_and_cannot_read_is_noticed(tmp_path, monkeypatch, capsys):
    """Under brackets, without the plain path it is given else, it calls every save done."""
    monkeypatch.setattr(step_folders.StepFolders, "plain", lambda self: self.folder)
    with Checkpoints(tmp_path / "lr[0.1]", 1) as checkpoints:
        checkpoints.save(1, small(1))
        with pytest.raises(CheckpointError, match=r"step 1 could not be saved.*read back"):
            checkpoints.finish()
    assert "1.corrupt" in capsys.readouterr().err


def test_any_character_may_be_in_the_path(tmp_path):
    found = checkpoint_campaign.odd_paths(tmp_path, 3)
    assert found["paths"] == found["saves"] / 2 > 30


# ---- A checkpoint is the step, and of the run, that it says.


@pytest.mark.parametrize("mix", MIXED)
def test_a_step_renamed_copied_or_of_another_run_is_found(tmp_path, capsys, mix):
    c = written(tmp_path / "c", seed=0, depth=20)
    other = written(tmp_path / "other", (3, 7), seed=1, depth=20)
    mix(c, other)
    with (
        Checkpoints(c, 5, create=False, run={"seed": 0, "depth": 20}) as reading,
        pytest.raises(Damaged, match=f"step {reading.newest()} of"),
    ):
        reading.restore(reading.newest(), small_like())
    with Checkpoints(c, 5, run={"seed": 0, "depth": 20}) as checkpoints:
        step, found, _ = checkpoints.restore_newest(small_like())
    assert step == (3 if mix is later_of_another_run else 2)
    assert (found["x"] == small(step)["x"]).all()
    assert ".corrupt" in capsys.readouterr().err


def test_whichever_steps_are_not_theirs_what_is_restored_is_right(tmp_path, capsys):
    found = checkpoint_campaign.mixed(tmp_path, 12)
    assert found["read_right"] and found["refused"] + found["read_right"] == found["folders"] == 12
    assert ".corrupt" in capsys.readouterr().err


def test_a_folder_that_is_all_of_another_run_is_refused_and_left_alone(tmp_path):
    c = written(tmp_path / "c", seed=1)
    with pytest.raises(CheckpointError, match=r"another run: seed=1 there, 0 here.*own folder"):
        Checkpoints(c, 5, run={"seed": 0})
    assert sorted(p.name for p in c.iterdir()) == ["1", "2", "3"]


def test_settings_that_only_one_version_knows_are_not_compared(tmp_path):
    c = written(tmp_path / "c", seed=0, gone=1)
    with Checkpoints(c, 5, run={"seed": 0, "new": 2}) as checkpoints:
        assert checkpoints.restore_newest(small_like())[0] == 3


def test_checkpoints_of_earlier_versions_are_read(tmp_path):
    """Their records hold no step, run or version, and beside them lies a score orbax kept."""
    c = written(tmp_path / "c", seed=0)
    for step in (1, 2, 3):
        path = c / str(step) / "record" / "metadata"
        record = seal.unsealed(json.loads(path.read_text()))
        old = {key: record[key] for key in ("digest", "score", "extra")} | {"score": step / 10}
        path.write_text(json.dumps(seal.sealed(old)))
        (c / str(step) / "metrics").mkdir()
        (c / str(step) / "metrics" / "metrics").write_text(json.dumps({"score": step / 10}))
    with Checkpoints(c, 2, run={"seed": 0}) as checkpoints:
        step, found, extra = checkpoints.restore_newest(small_like())
        assert (step, extra, checkpoints.best(), checkpoints.best_score()) == (3, None, 3, 0.3)
        assert (found["x"] == small(3)["x"]).all()
        checkpoints.save(4, small(4), 0.2)
        checkpoints.finish()
        assert checkpoints.steps() == [3, 4]


def test_the_version_in_a_record_is_the_packages(tmp_path):
    written(tmp_path / "c", (1,), seed=5)
    record = json.loads((tmp_path / "c" / "1" / "record" / "metadata").read_text())
    assert record["version"] == dalif_jax.__version__
    assert (record["step"], record["run"]) == (1, {"seed": 5})

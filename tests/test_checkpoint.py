"""Checkpoints: bit-equal, on any sharding, the newest and the best kept, a kill harmless."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dalif_jax.checkpoint import CheckpointError, Checkpoints
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
from dalif_jax.checkpoint import Checkpoints
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

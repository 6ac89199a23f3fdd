"""Checkpoints that are damaged, cannot be written or should never be."""

import json
import os
import subprocess
import sys

import campaign
import jax
import jax.numpy as jnp
import pytest
from commands import ROOT, run
from states import filled, like, state

from configs.base import get_config
from dalif_jax import training
from dalif_jax.runs.checkpoint import CheckpointError, Checkpoints, Damaged, NotFinite


def test_damaged_checkpoints_are_found_and_set_aside(tmp_path):
    # In a process of its own: a failed restore leaves orbax's unawaited coroutines behind.
    done = subprocess.run(
        [sys.executable, "tests/campaign.py", "--out", str(tmp_path / "out.json"),
         "--only", "corruptions", "--corruptions", "24"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["corruptions"]["set_aside"] >= 3


def test_with_no_whole_checkpoint_it_never_starts_from_scratch(tmp_path, capsys):
    folder = filled(tmp_path / "c")
    for step in (1, 2, 3):
        (folder / str(step) / "record" / "metadata").write_text("{}")
    for _ in range(2):  # and not when it is started again, either
        with (
            Checkpoints(folder, 3) as checkpoints,
            pytest.raises(CheckpointError, match="does not start again from scratch") as caught,
        ):
            checkpoints.restore_newest(like(state(0)))
        assert all(str(step) in str(caught.value) for step in (1, 2, 3))
    assert "set aside as" in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == ["1.corrupt", "2.corrupt", "3.corrupt"]


def test_what_was_set_aside_does_not_stop_the_step_from_being_saved_again(tmp_path):
    folder = filled(tmp_path / "c")
    (folder / "3" / "record" / "metadata").unlink()
    with Checkpoints(folder, 3) as checkpoints:
        step, restored, extra = checkpoints.restore_newest(like(state(0)))
        assert (step, extra) == (2, {"note": 2}) and restored["n"] == 2
        checkpoints.save(3, state(30))
        checkpoints.finish()
        assert checkpoints.restore_newest(like(state(0)))[1]["n"] == 30
    assert (folder / "3.corrupt").is_dir()


def test_a_flipped_bit_that_orbax_restores_silently(tmp_path):
    import orbax.checkpoint as ocp

    folder = filled(tmp_path / "c", (1,))
    chunk = max((folder / "1" / "state").rglob("*"), key=lambda p: p.is_file() and p.stat().st_size)
    data, plain = bytearray(chunk.read_bytes()), []
    for place in range(len(data) // 2, len(data), 997):
        data[place] ^= 16
    chunk.write_bytes(data)
    try:
        restored = ocp.StandardCheckpointer().restore(folder / "1" / "state")
        plain.append(bool((restored["a"] == 1).all()))
    except Exception as error:  # whatever orbax makes of it, ours must refuse
        plain.append(str(error))
    with Checkpoints(folder, 3) as checkpoints, pytest.raises(Damaged, match="step 1 of"):
        checkpoints.restore(1, like(state(0)))


FULL_DISK = """
import resource, sys
import jax.numpy as jnp
import numpy as np
from dalif_jax.runs.checkpoint import CheckpointError, Checkpoints
small, large = {"x": jnp.arange(10.0)}, {"x": jnp.arange(4_000_000.0)}
with Checkpoints(sys.argv[1], 5) as checkpoints:
    checkpoints.save(1, small)
    checkpoints.finish()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    checkpoints.save(2, large)
    try:
        checkpoints.finish()
    except CheckpointError as error:
        print("refused:", error)
    print("steps", checkpoints.steps())
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    checkpoints.save(3, large)
    checkpoints.finish()
    print("steps", checkpoints.steps())
"""


def test_a_full_disk_loses_only_that_save(tmp_path):
    folder = tmp_path / "c"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(folder)], cwd=ROOT, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "refused: step 2 could not be saved" in done.stdout
    assert done.stdout.count("steps [1]") == 1 and "steps [1, 3]" in done.stdout
    assert "Training goes on" in done.stderr
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == ["1", "3"]


# Files of at most 40 kB, as on a full disk: what permissions cannot do to root.
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.slow
def test_training_goes_on_when_a_save_fails_and_a_failed_last_save_is_an_error(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", LIMITED, "train.py", "--config", "configs/digits.py", "--workdir",
         str(tmp_path / "run"), "--config.epochs=3", "--config.timesteps=2"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "",
             "JAX_COMPILATION_CACHE_DIR": ""},
    )  # fmt: skip
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 2, out
    assert "epoch 3/3" in out and out.count("Training goes on") == 3, out
    assert "error: step 51 could not be saved" in out
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_run_that_stops_being_finite_says_where_and_saves_nothing_after(tmp_path):
    code, out = run(
        "train.py", "--config", "configs/digits.py", "--workdir", tmp_path / "run", *campaign.RUN,
        "--config.epochs=3", "--config.learning_rate=1e30", "--config.warmup_epochs=0",
    )  # fmt: skip
    assert code != 0 and "not finite at step" in out and "Traceback" not in out, out
    assert "first in the " in out
    assert not [p for p in (tmp_path / "run" / "checkpoints").iterdir() if p.name.isdigit()]


def test_the_first_layer_is_the_forward_pass_before_the_backward():
    settings = get_config()
    settings.update({"model": "tiny", "dataset": "digits", "batch_size": 8, "augment": ()})
    program = training.make_program(settings, 1, training.make_mesh())
    state = program.init()
    images = jnp.zeros((8, 8, 8, 1), jnp.uint8)
    labels, order = jnp.arange(8, dtype=jnp.int32), jnp.arange(8, dtype=jnp.int32)[None]
    names = ["stem0_conv", "stem0_norm", "stem0_neuron", "stage0_block0/shortcut_conv",
             "stage0_block0/shortcut_norm", "stage0_block0/conv0", "stage0_block0/norm0",
             "stage0_block0/neuron0", "stage0_block0/conv1", "stage0_block0/norm1",
             "stage0_block0/neuron1", "head"]  # fmt: skip

    def broken(*path):
        params = jax.tree.map(jnp.copy, state.params)
        *inner, last = path
        node = params
        for key in inner:
            node = node[key]
        node[last] = node[last] * jnp.nan
        _, metrics = program.train_step(
            jax.tree.map(jnp.copy, state.replace(params=params)), images, labels, order
        )
        return training.first_not_finite(jax.device_get(metrics["finite"]), state, names)

    assert broken("stage0_block0", "conv0", "kernel") == (
        "running statistics of stage0_block0/norm0"
    )
    assert broken("stem0_conv", "kernel") == "running statistics of stem0_norm"
    # After the last norm there are only gradients to see it by.
    assert broken("head", "kernel") == "gradient of head"
    _, metrics = program.train_step(state, images, labels, order)
    finite = jax.device_get(metrics["finite"])
    assert training.first_not_finite(finite, program.init(), names) is None


def test_a_state_that_is_not_finite_is_never_saved(tmp_path):
    with Checkpoints(tmp_path / "c", 1) as checkpoints:
        bad = state(1)
        bad["a"] = bad["a"].at[5, 1].set(jnp.inf)
        with pytest.raises(NotFinite, match=r"step 1: 1 of 2100 values of \['a'\]"):
            checkpoints.save(1, bad)
        assert checkpoints.steps() == []

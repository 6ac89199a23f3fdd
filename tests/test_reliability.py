"""Promises of docs/reliability.md, broken on purpose; the campaign in short form."""

import json
import signal
import subprocess
import sys
import time

import campaign
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_program import ROOT, run

from configs.base import get_config
from dalif_jax import training
from dalif_jax.runs import runlog
from dalif_jax.runs.checkpoint import CheckpointError, Checkpoints, Damaged, NotFinite
from dalif_jax.settings import config


def wait_for(process, start):
    for line in process.stdout:
        if line.startswith(start):
            return line
    raise AssertionError(f"the run ended before a line {start!r}")


# ---- 1. Kills.


@pytest.mark.slow
def test_kills_lose_nothing(tmp_path):
    found = campaign.kills(tmp_path, 3, 1)
    assert found["kills"] == 3 and found["with_an_unfinished_save_on_disk"] >= 1


# ---- 2. SIGTERM and Ctrl-C.


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    campaign.finish(folder / "run", "--config.epochs=30")
    return campaign.result(folder / "run")


@pytest.mark.slow
def test_signals_save_the_step_and_lose_none(tmp_path, whole):
    """SIGTERM, SIGINT, and each twice, in mid-epoch or wherever they fall."""
    workdir, arguments, reached = tmp_path / "run", ("--config.epochs=30",), []
    for number, more in ((signal.SIGTERM, 0), (signal.SIGINT, 1), (signal.SIGTERM, 3)):
        process = campaign.start(workdir, *arguments)
        wait_for(process, "step ")
        for _ in range(1 + more):
            process.send_signal(number)
            time.sleep(0.01)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 128 + number, out
        saved = int(out.split("saved after step ")[1].split(";")[0])
        reached.append(saved)
        folder = workdir / "checkpoints"
        assert max(int(p.name) for p in folder.iterdir() if p.name.isdigit()) == saved
        assert not campaign.unfinished(workdir)
    out = campaign.finish(workdir, *arguments)
    assert f"after step {reached[-1]}" in out
    assert any(step % 17 for step in reached), "every signal fell on an epoch's end"
    # Even the means over steps that a stop fell between are those of the run that never stopped.
    assert campaign.result(workdir) == whole


@pytest.mark.slow
def test_a_signal_during_the_last_evaluation_repeats_it(tmp_path, whole):
    workdir = tmp_path / "run"
    process = campaign.start(workdir, "--config.epochs=30", "--config.eval_batch_size=1")
    wait_for(process, "epoch 30/30")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode in (143, 0) and not (
        process.returncode == 143 and (workdir / "eval.json").exists()
    )
    campaign.finish(workdir, "--config.epochs=30")
    assert campaign.result(workdir)[:2] == whole[:2]
    assert json.loads((workdir / "eval.json").read_text())["accuracy"] == whole[3]["accuracy"]


# ---- 3. Damaged checkpoints.


def test_damaged_checkpoints_are_found_and_set_aside(tmp_path):
    # In a process of its own: a failed restore leaves orbax's unawaited coroutines behind.
    done = subprocess.run(
        [sys.executable, "tests/campaign.py", "--out", str(tmp_path / "out.json"),
         "--only", "corruptions", "--corruptions", "24"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["corruptions"]["set_aside"] >= 3


def state(value):
    return {
        "a": jnp.full((700, 3), float(value)),
        "n": jnp.int32(value),
        "h": jnp.ones(4, jnp.bfloat16),
    }


def like(tree):
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), tree)


def filled(folder, steps=(1, 2, 3)):
    with Checkpoints(folder, 3) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step), extra={"note": step})
        checkpoints.finish()
    return folder


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


# ---- 4. A disk that is full.


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
        env={**campaign.ENVIRONMENT, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "",
             "JAX_COMPILATION_CACHE_DIR": ""},
    )  # fmt: skip
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 2, out
    assert "epoch 3/3" in out and out.count("Training goes on") == 3, out
    assert "error: step 51 could not be saved" in out
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


# ---- 5. Not finite.


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


# ---- 6. Another network.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {**t, "a": jnp.zeros((700, 4))}, r"\['a'\]: float32 \(700, 3\) there, .*700, 4"),
        (lambda t: {**t, "a": t["a"].astype(jnp.bfloat16)}, r"\['a'\]: float32 .* bfloat16 "),
        (lambda t: {**t, "b": jnp.zeros(2)}, r"\['b'\]: nothing there, float32 \(2,\) expected"),
        (lambda t: {"a": t["a"], "n": t["n"]}, r"\['h'\]: bfloat16 \(4,\) there, nothing expected"),
    ],
)
def test_another_network_is_refused_without_falling_back(tmp_path, change, message):
    folder = filled(tmp_path / "c")
    with (
        Checkpoints(folder, 3) as checkpoints,
        pytest.raises(CheckpointError, match=f"(?s)step 3 of .* another network.*{message}"),
    ):
        checkpoints.restore_newest(like(change(state(0))))
    assert sorted(p.name for p in folder.iterdir()) == ["1", "2", "3"]


# ---- 7. Two processes in one workdir.


@pytest.mark.slow
def test_a_second_process_is_refused_at_once_and_no_lock_is_left(tmp_path):
    workdir = tmp_path / "run"
    first = campaign.start(workdir, "--config.epochs=400")
    wait_for(first, "step ")
    started = time.monotonic()
    second = campaign.start(workdir, "--config.epochs=400")
    out, _ = second.communicate(timeout=60)
    assert second.returncode == 2 and "another process is training in" in out, out
    assert time.monotonic() - started < 30 and first.poll() is None
    first.send_signal(signal.SIGKILL)
    first.communicate()
    third = campaign.start(workdir, "--config.epochs=400")
    wait_for(third, "step ")
    third.send_signal(signal.SIGKILL)
    third.communicate()


# ---- 8. and 9. Changed settings, a finished run again.


@pytest.mark.slow
def test_a_finished_run_may_go_on_with_more_epochs_but_not_with_another_rate(tmp_path):
    workdir = tmp_path / "run"
    campaign.finish(workdir, "--config.epochs=3")
    steps = [r["step"] for r in runlog.read_metrics(workdir / "metrics.jsonl")]
    (workdir / "eval.json").unlink()
    out = campaign.finish(workdir, "--config.epochs=3")
    assert (workdir / "eval.json").exists() and "\nstep " not in out
    assert [r["step"] for r in runlog.read_metrics(workdir / "metrics.jsonl")] == steps

    process = campaign.start(workdir, "--config.epochs=4", "--config.learning_rate=0.2")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and "learning_rate: 0.1 there, 0.2 now" in out
    assert "epochs" not in out.split("another config:")[1]
    out = campaign.finish(workdir, "--config.epochs=4", "--config.log_every=10")
    assert "epochs: 3 there, 4 now" in out and "log_every: 5 there, 10 now" in out
    assert config.load(workdir).epochs == 4
    with Checkpoints(workdir / "checkpoints", 3, create=False) as checkpoints:
        assert checkpoints.newest() == 4 * 17


# ---- Elastic: another number of devices.


@pytest.mark.slow
def test_a_run_of_eight_devices_continues_on_four_one_and_sixteen(tmp_path):
    """In float64 the devices' order of sums is all that differs; the data order is the same."""
    arguments = ("--config.epochs=4", "--config.dtype=float64", "--config.batch_size=64")

    def go(workdir, devices, epochs):
        flag = f"--xla_force_host_platform_device_count={devices}"
        code, out = run(
            "train.py", "--config", "configs/digits.py", "--workdir", workdir, *campaign.RUN,
            *arguments, f"--config.epochs={epochs}", "--config.schedule=constant",
            "--config.warmup_epochs=0", XLA_FLAGS=flag,
        )  # fmt: skip
        assert code == 0 and f"{devices} x cpu" in out, out

    go(tmp_path / "one", 1, 4)
    for devices, epochs in ((8, 1), (4, 2), (1, 3), (16, 4)):
        go(tmp_path / "many", devices, epochs)
    states = []
    with jax.enable_x64(True):
        for name in ("one", "many"):
            settings = config.load(tmp_path / name)
            with Checkpoints(tmp_path / name / "checkpoints", 3, create=False) as checkpoints:
                states.append(checkpoints.restore_newest(campaign.like(settings))[1])
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
    logs = [runlog.read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "many")]
    assert [r["step"] for r in logs[0]] == [r["step"] for r in logs[1]]


# ---- 11. Fuzzing; the soak in short.


def test_fuzzed_settings_and_logs_are_accepted_or_named(tmp_path):
    assert campaign.fuzz(tmp_path, 60)["unexpected"] == 0


def test_a_damaged_log_is_one_clear_line(tmp_path):
    workdir = tmp_path / "run"
    campaign.finish(workdir, "--config.epochs=1", "--config.warmup_epochs=0")
    log = workdir / "metrics.jsonl"
    log.write_bytes(b"\xff\x00nonsense\n" + log.read_bytes())
    process = campaign.start(workdir, "--config.epochs=1", "--config.warmup_epochs=0")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and "metrics.jsonl line 1 is not a metrics record" in out
    assert "Traceback" not in out


@pytest.mark.slow
def test_memory_and_open_files_stay_flat(tmp_path):
    campaign.soak(tmp_path, 40)

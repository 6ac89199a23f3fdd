"""Promises of docs/reliability.md, broken on purpose; the campaign in short form."""

import json
import signal
import time

import campaign
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import run
from states import filled, like, state

from dalif_jax.runs import runlog
from dalif_jax.runs.checkpoint import CheckpointError, Checkpoints
from dalif_jax.settings import config


def wait_for(process, start):
    for line in process.stdout:
        if line.startswith(start):
            return line
    raise AssertionError(f"the run ended before a line {start!r}")


@pytest.mark.slow
def test_kills_lose_nothing(tmp_path):
    found = campaign.kills(tmp_path, 3, 1)
    assert found["kills"] == 3 and found["with_an_unfinished_save_on_disk"] >= 1


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


def test_fuzzed_settings_and_logs_are_accepted_or_named(tmp_path):
    assert campaign.fuzz(tmp_path, 60)["unexpected"] == 0


@pytest.mark.slow
def test_memory_and_open_files_stay_flat(tmp_path):
    campaign.soak(tmp_path, 40)

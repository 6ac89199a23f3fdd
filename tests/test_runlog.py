"""What a run writes and prints: no step twice, none missing, valid JSON, honest times."""

import json
import struct

import jax.numpy as jnp
import numpy as np
import pytest

from dalif_jax.runs import runlog


def test_records_come_back_as_they_went_in(tmp_path):
    layers = {"stem0_neuron": {"alpha": np.float32(0.5), "spikes": 2**40, "beta": np.ones(2)}}
    with runlog.RunLog(tmp_path, 0, clock=lambda: 7.0) as log:
        log.write("train", 1, {"loss": jnp.float32(1.5), "accuracy": 0.25})
        log.write("eval", 2, {"accuracy": 1.0, "layers": layers, "loss": float("nan")})
    first, second = runlog.read_metrics(tmp_path / "metrics.jsonl")
    assert first == {"kind": "train", "step": 1, "loss": 1.5, "accuracy": 0.25, "seconds": 0.0}
    assert second["layers"]["stem0_neuron"] == {"alpha": 0.5, "spikes": 2**40, "beta": [1.0, 1.0]}
    assert second["loss"] is None


def test_a_resumed_run_has_each_step_once(tmp_path):
    with runlog.RunLog(tmp_path, 0) as log:
        for step in range(1, 8):
            log.write("train", step, {"loss": float(step)})
    path = tmp_path / "metrics.jsonl"
    with open(path, "a") as file:
        file.write('{"kind": "train", "step": 8, "lo')  # torn by a kill
    with runlog.RunLog(tmp_path, 5) as log:
        for step in range(6, 10):
            log.write("train", step, {"loss": -float(step)})
    records = runlog.read_metrics(path)
    assert [r["step"] for r in records] == list(range(1, 10))
    assert [r["loss"] for r in records] == [1, 2, 3, 4, 5, -6, -7, -8, -9]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_seconds_go_on_where_the_last_kept_record_stood(tmp_path):
    now = [50.0]
    for resumed in (0, 2):
        with runlog.RunLog(tmp_path, resumed, clock=lambda: now[0]) as log:
            for step in range(resumed + 1, resumed + 4):
                now[0] += 10
                log.write("train", step, {})
        now[0] += 1000  # between two processes
    seconds = [r["seconds"] for r in runlog.read_metrics(tmp_path / "metrics.jsonl")]
    assert seconds == [10, 20, 30, 40, 50]


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "train", "step": 1}\nnot json\n{"kind": "train", "step": 2}\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl line 2"):
        runlog.read_metrics(path)
    with pytest.raises(ValueError, match=r"line 2"):
        runlog.RunLog(tmp_path, 0)
    assert "not json" in path.read_text()  # nothing was lost


def test_scalars_reach_tensorboard(tmp_path):
    with runlog.RunLog(tmp_path, 0) as log:
        log.write("eval", 3, {"accuracy": 0.5, "layers": {"n": {"alpha": 0.7}}, "split": "test"})
    (file,) = (tmp_path / "tensorboard").iterdir()
    content = file.read_bytes()
    assert b"eval/accuracy" in content and b"eval/layers/n/alpha" in content


def test_progress_counts_only_the_time_of_steps():
    now = [100.0]
    progress = runlog.Progress(110, 10, 10, 32, clock=lambda: now[0])
    now[0] += 4.0
    line = progress.line(20, 0.5, 0.875, 0.1)
    assert progress.rate == 80.0  # 10 steps of 32 in 4 s
    assert line == (
        "step 20/110  epoch 2.00  loss 0.5000  accuracy 87.50%  lr 0.1000  80 images/s  0:36 left"
    )
    with progress.paused():
        now[0] += 1000.0
    now[0] += 2.0
    progress.line(30, 0.5, 0.5, 0.1)
    assert progress.rate == 160.0


def test_the_first_line_leaves_the_compiling_step_out():
    now = [0.0]
    progress = runlog.Progress(101, 0, 10, 32, clock=lambda: now[0])
    for step in range(1, 11):
        now[0] += 60.0 if step == 1 else 1.0
        progress.stepped(step)
    line = progress.line(10, 0.5, 0.5, 0.1)
    assert progress.rate == 32.0 and line.endswith("32 images/s  1:31 left")
    # A line after the first step knows no rate; the log has null there, JSON has no NaN.
    progress = runlog.Progress(101, 0, 10, 32, clock=lambda: now[0])
    now[0] += 60.0
    progress.stepped(1)
    line = progress.line(1, 0.5, 0.5, 0.1)
    assert np.isnan(progress.rate) and "nan" not in line and line.endswith("from the next line")
    now[0] += 2.0
    progress.stepped(2)
    assert progress.line(2, 0.5, 0.5, 0.1).endswith("16 images/s  3:18 left")


def test_durations():
    assert [runlog.duration(s) for s in (5, 65, 3600 + 125, 2 * 86400 + 3661)] == [
        "0:05", "1:05", "1:02:05", "2 d 01:01:01",
    ]  # fmt: skip


def events(workdir):
    """(step, wall time) of the values that TensorBoard shows, read as it reads them."""
    from tensorboardX.proto.event_pb2 import Event

    shown = {}
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event, data = Event.FromString(data[12 : 12 + length]), data[16 + length :]
            if event.HasField("session_log"):
                shown = {step: time for step, time in shown.items() if step < event.step}
            if event.summary.value:
                shown[event.step] = event.wall_time
    return sorted(shown.items())


def test_tensorboard_clock_set_back_shows_each_step_once(tmp_path, monkeypatch):
    for clock, resumed, last in (
        (2_000_000_000, 0, 10),
        (1_500_000_000, 5, 20),
        (160_000_000, 20, 30),
    ):
        monkeypatch.setattr(runlog.time, "time", lambda clock=clock: clock)
        with runlog.RunLog(tmp_path, resumed) as log:
            for step in range(resumed + 1, last + 1):
                log.write("train", step, {"loss": float(step)})
    steps, times = zip(*events(tmp_path), strict=True)
    assert list(steps) == list(range(1, 31))
    assert list(times) == sorted(times)


def test_log_is_not_written_through_a_link(tmp_path):
    (tmp_path / "outside").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").symlink_to(tmp_path / "outside")
    with runlog.RunLog(tmp_path / "run", 0) as log:
        log.write("train", 1, {"loss": 1.0})
    assert (tmp_path / "outside").read_text() == ""
    assert runlog.read_metrics(tmp_path / "run" / "metrics.jsonl")[0]["step"] == 1

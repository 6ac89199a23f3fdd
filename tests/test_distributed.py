"""Several processes train one run over CPU collectives, found the way Slurm's are."""

import json
import os
import random
import signal
import subprocess
import sys

import campaign
import imagenet_files
import jax
import numpy as np
import pytest
from commands import ROOT, run

from dalif_jax.runs import runlog
from dalif_jax.runs.checkpoint import Checkpoints
from dalif_jax.settings import config

pytestmark = pytest.mark.slow
ARGUMENTS = ("--config.dtype=float64", "--config.epochs=2", "--config.schedule=constant")


def start(workdir, count, *arguments, recipe="configs/digits.py", settings=campaign.RUN, each=()):
    job = random.randrange(10**6)  # JAX takes its port from the job's number
    return [
        subprocess.Popen(
            [sys.executable, "train.py", "--distributed", "--config", recipe,
             "--workdir", str(workdir), *settings, *ARGUMENTS, *arguments,
             *(each[rank] if each else ())],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "",
                 "PYTHONUNBUFFERED": "1", "SLURM_JOB_ID": str(job), "SLURM_NTASKS": str(count),
                 "SLURM_STEP_NODELIST": "localhost", "SLURM_PROCID": str(rank),
                 "SLURM_LOCALID": str(rank)},
        )
        for rank in range(count)
    ]  # fmt: skip


def outputs(processes):
    # All at once: one that waits for another must not wait for its output to be read.
    return [process.communicate(timeout=240)[0] for process in processes]


def final(workdir):
    with jax.enable_x64(True):
        settings = config.load(workdir)
        with Checkpoints(workdir / "checkpoints", 3, create=False) as checkpoints:
            return checkpoints.restore_newest(campaign.like(settings))[1]


def same(one, other):
    for a, b in zip(*(jax.tree.leaves(final(w)) for w in (one, other)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    logs = [runlog.read_metrics(w / "metrics.jsonl") for w in (one, other)]
    assert [(r["kind"], r["step"]) for r in logs[0]] == [(r["kind"], r["step"]) for r in logs[1]]
    for a, b in zip(*logs, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-9)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one") / "run"
    code, out = run(
        "train.py", "--config", "configs/digits.py", "--workdir", workdir, *campaign.RUN, *ARGUMENTS
    )
    assert code == 0, out
    return workdir


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_train_as_one(tmp_path, alone, count):
    processes = start(tmp_path / "run", count)
    out = outputs(processes)
    assert [process.returncode for process in processes] == [0] * count, out
    assert f"{count} x cpu" in out[0] and "step 34/34" in out[0]
    assert not any("step " in text for text in out[1:])  # the first alone speaks
    same(alone, tmp_path / "run")
    accuracy = [
        json.loads((w / "eval.json").read_text())["accuracy"] for w in (alone, tmp_path / "run")
    ]
    assert accuracy[0] == accuracy[1]


def test_a_sigterm_to_one_process_stops_all_after_the_same_step(tmp_path, alone):
    processes = start(tmp_path / "run", 2)
    for line in processes[0].stdout:
        if line.startswith("step "):
            break
    processes[1].send_signal(signal.SIGTERM)
    out = outputs(processes)
    assert [process.returncode for process in processes] == [143, 143], out
    saved = int(out[0].split("saved after step ")[1].split(";")[0])
    assert 0 < saved < 34
    processes = start(tmp_path / "run", 2)
    out = outputs(processes)
    assert [process.returncode for process in processes] == [0, 0], out
    assert f"after step {saved}" in out[0]
    same(alone, tmp_path / "run")


@pytest.mark.parametrize("both", [False, True])
def test_sigint_to_one_or_all_stops_all_and_saves(tmp_path, alone, both):
    processes = start(tmp_path / "run", 2)
    for line in processes[0].stdout:
        if line.startswith("step "):
            break
    processes[1].send_signal(signal.SIGINT)
    if both:
        processes[0].send_signal(signal.SIGINT)
        processes[1].send_signal(signal.SIGINT)
    out = outputs(processes)
    assert [process.returncode for process in processes] == [130, 130], out
    assert 0 < int(out[0].split("saved after step ")[1].split(";")[0]) < 34
    processes = start(tmp_path / "run", 2)
    out = outputs(processes)
    assert [process.returncode for process in processes] == [0, 0], out
    same(alone, tmp_path / "run")


def test_processes_with_other_settings_are_refused_by_all(tmp_path):
    processes = start(tmp_path / "run", 2, each=[(), ("--config.label_smoothing=0.9",)])
    out = outputs(processes)
    assert [process.returncode for process in processes] == [2, 2], out
    assert all("label_smoothing: 0.0 in process 0, 0.9 in process 1" in text for text in out)
    assert not (tmp_path / "run").exists()


def test_a_streamed_set_is_shared_out_and_trains_the_same(tmp_path):
    pairs = [(imagenet_files.jpeg(i, 60, 48), i % 5) for i in range(40)]
    imagenet_files.prepare(tmp_path, pairs[:32], pairs[32:], "tfrecord", 2)
    settings = (
        f"--config.data_dir={tmp_path}", f"--config.cache_dir={tmp_path / 'cache'}",
        "--config.partial_data=True", "--config.frame_size=32", "--config.model=tiny",
        "--config.timesteps=2", "--config.batch_size=8", "--config.eval_batch_size=8",
        "--config.learning_rate=0.01",
    )  # fmt: skip
    recipe = {"recipe": "configs/imagenet_r34.py", "settings": settings}
    for count in (1, 2):
        processes = start(tmp_path / str(count), count, **recipe)
        out = outputs(processes)
        assert [process.returncode for process in processes] == [0] * count, out
        assert "step 8/8" in out[0]
    same(tmp_path / "1", tmp_path / "2")


def test_without_a_cluster_the_flag_is_refused(tmp_path):
    code, out = run(
        "train.py", "--distributed", "--config", "configs/digits.py", "--workdir", tmp_path / "run"
    )
    assert code == 2 and "JAX finds no cluster here" in out and "Traceback" not in out, out

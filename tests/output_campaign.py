"""Output that breaks, signals at any moment, and processes that do not agree.

Two parts of the campaign behind docs/reliability.md (`campaign.py`).
"""

import os
import pty
import random
import shutil
import signal
import struct
import subprocess
import sys
import time

import campaign
import imagenet_files
import numpy as np

from dalif_jax.data import sets
from dalif_jax.runs import cluster, runlog
from dalif_jax.settings import config

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def records(workdir):
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def newest(workdir):
    steps = [int(p.name) for p in (workdir / "checkpoints").glob("[0-9]*") if p.name.isdigit()]
    return max(steps, default=0)


def broken_start(workdir, arguments, kind):
    """Start a run whose output breaks; returns it and a function that breaks it."""
    command = [sys.executable, "train.py", "--config", "configs/digits.py", "--workdir",
               str(workdir), *campaign.RUN, *arguments]  # fmt: skip
    where = {"cwd": campaign.ROOT, "stdin": subprocess.DEVNULL,
             "env": {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}}  # fmt: skip
    if kind == "closed pipe":
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **where
        )
        return process, process.stdout.close
    if kind == "closed terminal":
        main, terminal = pty.openpty()
        process = subprocess.Popen(command, stdout=terminal, stderr=terminal, **where)
        os.close(terminal)
        return process, lambda: os.close(main)
    if kind == "full disk":
        with open("/dev/full", "w") as full:
            process = subprocess.Popen(command, stdout=full, stderr=full, **where)
        return process, lambda: None
    closed = ["bash", "-c", 'exec "$0" "$@" >&- 2>&-', *command]
    return subprocess.Popen(closed, **where), lambda: None


def broken_output(folder, tries, seed=0, epochs=240, progress=lambda counts: None):
    """Break a run's output in one of four ways and stop it by one of three signals, at random
    moments and in either order: it must end with 128 + number and save the step that it reached.
    Continued to its end it must be, bit for bit, the run that nothing happened to."""
    arguments = (f"--config.epochs={epochs}", "--config.eval_every=20",
                 "--config.checkpoint_every=20", "--config.log_every=5")  # fmt: skip
    campaign.finish(folder / "whole", *arguments)
    whole = campaign.result(folder / "whole")
    rng, workdir = random.Random(seed), folder / "broken"
    counts = {"tries": 0, "saved": 0, "in_or_before_the_first_steps": 0, "whole_runs_compared": 0,
              "lost": 0}  # fmt: skip
    kinds = ("closed pipe", "closed terminal", "full disk", "closed")
    while counts["tries"] < tries:
        kind = kinds[counts["tries"] % 4]
        chosen = rng.choice(SIGNALS)
        before, saved = records(workdir), newest(workdir)
        process, break_output = broken_start(workdir, arguments, kind)
        early = rng.random() < 0.2  # at any moment from the start of Python on
        if early:
            time.sleep(rng.uniform(0.3, 8))
        else:
            deadline = time.monotonic() + 120
            while records(workdir) <= before and process.poll() is None:
                assert time.monotonic() < deadline, kind
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3))
        first, second = rng.sample([break_output, lambda p=process, s=chosen: p.send_signal(s)], 2)
        first()
        time.sleep(rng.choice([0, 0.02, 0.1]))
        second()
        code = process.wait(120)
        if code == 0:  # it reached its end before the signal: compare it, and begin another
            assert campaign.result(workdir) == whole, kind
            counts["whole_runs_compared"] += 1
            workdir = folder / f"broken{counts['whole_runs_compared']}"
            continue
        counts["tries"] += 1
        assert code == 128 + chosen or (early and code == -chosen), (kind, chosen, code)
        reached = (
            max((r["step"] for r in runlog.read_metrics(workdir / "metrics.jsonl")), default=0)
            if records(workdir)
            else 0
        )
        assert newest(workdir) >= max(saved, reached), (kind, chosen, newest(workdir), reached)
        counts["saved" if newest(workdir) > saved else "in_or_before_the_first_steps"] += 1
        assert not campaign.unfinished(workdir)
        progress(counts)
    campaign.finish(workdir, *arguments)
    broken = campaign.result(workdir)
    assert whole == broken, [a == b for a, b in zip(whole, broken, strict=True)]
    counts["whole_runs_compared"] += 1
    return counts


# ---- Several processes.


def start_pair(workdir, recipe, *arguments, each=((), ())):
    """Two processes of one run, found the way Slurm's are; `each` holds further arguments."""
    job = random.randrange(10**6)  # JAX takes its port from the job's number
    return [
        subprocess.Popen(
            [sys.executable, "train.py", "--distributed", "--config", f"configs/{recipe}.py",
             "--workdir", str(workdir), *arguments, *each[rank]],
            cwd=campaign.ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONUNBUFFERED": "1",
                 "SLURM_JOB_ID": str(job), "SLURM_NTASKS": "2", "SLURM_PROCID": str(rank),
                 "SLURM_STEP_NODELIST": "localhost", "SLURM_LOCALID": str(rank)},
        )
        for rank in (0, 1)
    ]  # fmt: skip


def ended(processes):
    """(exit codes, outputs) of processes that must end."""
    out = [process.communicate(timeout=240)[0] for process in processes]
    return [process.returncode for process in processes], out


DIFFERENT = {
    "epochs": 9, "seed": 7, "learning_rate": 0.07, "label_smoothing": 0.3, "batch_size": 32,
    "augment": ["flip"], "neuron": "lif", "model": "small", "optimizer": "adamw", "dtype":
    "float64", "timesteps": 3, "weight_decay": 0.1, "keep": 7, "eval_every": 3, "warmup_epochs":
    0.5, "momentum": 0.5, "schedule": "constant",
}  # fmt: skip


def compared(tries, rng):
    """Compare descriptions that differ in one random setting, version, pixel or label."""
    plain = config.to_json(campaign.get_config())
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 1), np.uint8)
    labels = np.arange(40, dtype=np.int32) % 10
    for number in range(tries):
        settings = config.from_json(plain, "campaign")
        other = config.from_json(plain, "campaign")
        one = cluster.run_description(settings, "runs/x") | cluster.data_digest(
            {"train": sets.Split(images, labels)}
        )
        seen = images.copy(), labels.copy()
        if number % 3 == 0:
            key = rng.choice([k for k, v in DIFFERENT.items() if plain[k] != v])
            other = config.from_json(plain | {key: DIFFERENT[key]}, "campaign")
        elif number % 3 == 1:
            key = f"train {rng.choice(['images', 'labels'])}"
            flat = seen[key.endswith("labels")].reshape(-1)
            flat[rng.randrange(flat.size)] += 1
        two = cluster.run_description(other, "runs/x") | cluster.data_digest(
            {"train": sets.Split(*seen)}
        )
        if number % 3 == 2:
            key = rng.choice([name for name in two if name.startswith("version of")])
            two[key] = f"{two[key]}.1"
        (line,) = cluster.differences([one, two])
        assert line.startswith(f"  {key}: "), (key, line)
    return tries


def process_groups(folder, refusals=6, stops=8, errors=2, compare=48, seed=0):
    """Pairs of processes: with another setting they are refused by both with the key named; a
    signal to any of them stops both, saved and resumable; a data error in one ends both, saved."""
    rng = random.Random(seed)
    counts = {"tries": 0, "compared": compared(compare, rng), "refused": 0, "stopped": 0,
              "data_errors": 0, "hangs": 0}  # fmt: skip
    run = (*campaign.RUN, "--config.epochs=200", "--config.eval_every=50",
           "--config.warmup_epochs=0.0")  # fmt: skip
    keys = ["epochs", "seed", "learning_rate", "label_smoothing", "keep", "timesteps", "momentum"]
    for number in range(refusals):
        workdir, key = folder / f"refused{number}", rng.choice(keys)
        each = [(), ()]
        each[rng.randrange(2)] = (f"--config.{key}={DIFFERENT[key]}",)
        codes, out = ended(start_pair(workdir, "digits", *run, each=each))
        assert codes == [2, 2] and all(f"  {key}: " in text for text in out), out
        assert not workdir.exists()
        counts["refused"] += 1
    workdir = folder / "stopped"
    for _ in range(stops):
        processes, before = start_pair(workdir, "digits", *run), records(workdir)
        chosen, targets = rng.choice(SIGNALS), rng.choice([(0,), (1,), (0, 1), (0, 1, 1), (1, 0)])
        while records(workdir) <= before and all(p.poll() is None for p in processes):
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.5))
        for rank in targets:
            processes[rank].send_signal(chosen)
            time.sleep(rng.choice([0, 0.05, 0.3]))
        codes, out = ended(processes)
        assert codes == [128 + chosen] * 2, (codes, out)
        assert f"saved after step {newest(workdir)}" in out[0], out[0][-500:]
        counts["stopped"] += 1
    pairs = [(imagenet_files.jpeg(i, 60, 48), i % 5) for i in range(72)]
    streams = ("--config.partial_data=True", "--config.frame_size=32", "--config.model=tiny",
               "--config.timesteps=2", "--config.batch_size=8", "--config.eval_batch_size=8",
               "--config.epochs=1", "--config.warmup_epochs=0.0", "--config.learning_rate=0.01",
               "--config.dtype=float32")  # fmt: skip
    prepared = folder / "data0"
    prepared.mkdir()
    imagenet_files.prepare(prepared, pairs[:64], pairs[64:], "tfrecord", 2)
    for number in range(errors):
        damaged = folder / f"data{number + 1}"
        shutil.copytree(prepared, damaged)
        shard = sorted(damaged.rglob("*train*tfrecord*"))[-1]
        data = bytearray(shard.read_bytes())
        # Many records, because each process reads only its part of every batch.
        start, first = 0, rng.randrange(8, 20)
        for record in range(len(pairs)):
            if start >= len(data):
                break
            (length,) = struct.unpack("<Q", data[start : start + 8])
            if record >= first:
                data[start + 12 + length // 2] ^= 4
            start += 16 + length
        shard.write_bytes(data)
        workdir, each = folder / f"error{number}", []
        for root in rng.sample([prepared, damaged], 2):
            each.append((f"--config.data_dir={root}", f"--config.cache_dir={root / 'cache'}"))
        codes, out = ended(start_pair(workdir, "imagenet_r34", *streams, each=each))
        assert codes == [2, 2], (codes, out)
        assert all("error: " in text and "Traceback" not in text for text in out), out
        assert f"saved after step {newest(workdir)}" in out[0], out[0][-800:]
        counts["data_errors"] += 1
    counts["tries"] = compare + refusals + stops + errors
    return counts

"""Breaking runs on purpose: the campaign behind docs/reliability.md.

    python tests/campaign.py --out docs/reliability.json

The suite runs a short form of each part; every part raises AssertionError at the first promise that
does not hold, and returns what it tried.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import checkpoint_campaign  # noqa: E402  after the path
import data_campaign  # noqa: E402
import foreign_campaign  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import own_data_campaign  # noqa: E402

from configs.base import get_config  # noqa: E402
from dalif_jax import training  # noqa: E402
from dalif_jax.runs import runlog  # noqa: E402
from dalif_jax.runs.checkpoint import Checkpoints, digest  # noqa: E402
from dalif_jax.settings import config  # noqa: E402

RUN = (
    "--config.model=tiny", "--config.timesteps=2", "--config.log_every=5", "--config.keep=3",
)  # fmt: skip

# Of a log's records: all that its clock and its memory decide.
OF_THE_PROCESS = ("images_per_second", "seconds", "peak_mb")


def start(workdir, *arguments, under=()):
    """train.py on digits in a process of its own, on one CPU device; `under` another script."""
    return subprocess.Popen(
        [sys.executable, *map(str, under), "train.py", "--config", "configs/digits.py",
         "--workdir", str(workdir), *RUN, *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def finish(workdir, *arguments):
    process = start(workdir, *arguments)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    return out


def like(settings, devices=None):
    program = training.make_program(settings, 17, training.make_mesh(devices or jax.devices()[:1]))
    return training.abstract_state(program)


def result(workdir):
    """What a finished run left: digest of its last state, steps of its log, its evaluation."""
    settings = config.load(workdir)
    with Checkpoints(Path(workdir) / "checkpoints", settings.keep, create=False) as checkpoints:
        step, state, _ = checkpoints.restore_newest(like(settings))
    records = runlog.read_metrics(Path(workdir) / "metrics.jsonl")
    records = [
        {k: v for k, v in r.items() if k not in OF_THE_PROCESS}
        for r in records
        if r["kind"] != "output"  # lines that could not be printed
    ]
    evaluation = json.loads((Path(workdir) / "eval.json").read_text())
    return step, digest(jax.device_get(state)), records, evaluation


def unfinished(workdir):
    return list((Path(workdir) / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def kills(folder, count, during_saves, seed=0, epochs=60):
    """SIGKILL `count` times, `during_saves` of them while an unfinished save is on disk; the run
    that continues after each must end as one that was never touched: bit for bit, step for step."""
    arguments = (f"--config.epochs={epochs}",)
    finish(folder / "whole", *arguments)
    rng, workdir, in_saves, done = random.Random(seed), folder / "killed", 0, 0
    while done < count:
        process = start(workdir, *arguments)
        for line in process.stdout:  # until the loop has begun
            if line.startswith("step "):
                break
        aim = in_saves < during_saves
        if aim:
            while process.poll() is None and not unfinished(workdir):
                time.sleep(0.0005)
        else:
            time.sleep(rng.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"
        done += 1
        in_saves += bool(unfinished(workdir))
    out = finish(workdir, *arguments)
    assert "continuing" in out
    whole, killed = result(folder / "whole"), result(workdir)
    assert whole == killed, [a == b for a, b in zip(whole, killed, strict=True)]
    assert not unfinished(workdir)
    return {"kills": done, "with_an_unfinished_save_on_disk": in_saves, "lost_or_different": 0}


def corruptions(folder, seed=0, limit=None):
    """Damage the newest of three checkpoints in every file: it must be read right, or set aside and
    the one before read right."""
    finish(folder / "run", "--config.epochs=3")
    settings = config.load(folder / "run")
    whole, expected = folder / "run" / "checkpoints", like(settings)
    steps = {}
    with Checkpoints(whole, 3, create=False) as checkpoints:
        for step in checkpoints.steps():
            steps[step] = digest(jax.device_get(checkpoints.restore(step, expected)[0]))
    newest, before = sorted(steps)[-1], sorted(steps)[-2]
    rng = random.Random(seed)
    files = sorted(p.relative_to(whole) for p in (whole / str(newest)).rglob("*") if p.is_file())

    def truncated(path):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def flipped(path):
        data = bytearray(path.read_bytes())
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)

    def emptied(path):
        shutil.rmtree(path)
        path.mkdir()

    cases = [(kind, file) for file in files for kind in (truncated, *[flipped] * 10, Path.unlink)]
    rng.shuffle(cases)
    cases = [(emptied, Path(str(newest))), *cases[: limit and limit - 1]]
    counts = {"set_aside": 0, "read_right": 0}
    for number, (damage, file) in enumerate(cases):
        copy = folder / f"copy{number}"
        shutil.copytree(whole, copy)
        damage(copy / file)
        with Checkpoints(copy, 3) as checkpoints:
            step, state, _ = checkpoints.restore_newest(expected)
        assert digest(jax.device_get(state)) == steps[step], (damage.__name__, file)
        aside = (copy / f"{newest}.corrupt").exists()
        assert step == (before if aside else newest), (damage.__name__, file)
        counts["set_aside" if aside else "read_right"] += 1
        shutil.rmtree(copy)
    return {"corruptions": len(cases), **counts, "wrong_or_lost": 0}


def random_value(rng):
    return rng.choice(
        [None, True, -1, 0, 3, 10**20, 0.5, -2.5, float("nan"), float("inf"), "", "relu", "é\0",
         [], [1], ["crop", 3], {}, {"a": 1}, [[]], "resnet20", "sum", "1e3"]
    )  # fmt: skip


def fuzz(folder, cases, seed=0):
    """Random values and bytes in configs and logs: accepted, or an error naming key or file."""
    rng = random.Random(seed)
    counts = {"config": 0, "config.json": 0, "metrics.jsonl": 0, "accepted": 0}
    plain = config.to_json(get_config())
    path = folder / "config.json"
    for number in range(cases):
        which = ("config", "config.json", "metrics.jsonl")[number % 3]
        counts[which] += 1
        try:
            if which == "config":
                keys = rng.sample(sorted(plain), rng.randint(1, 3))
                changed = plain | {key: random_value(rng) for key in keys}
                config.validate(config.from_json(changed, "fuzz"), 8)
            elif which == "config.json":
                path.write_bytes(damaged(rng, json.dumps(plain).encode()))
                config.validate(config.load(folder))
            else:
                lines = b'{"kind": "train", "step": 5, "loss": 1.0}\n' * 3
                (folder / "metrics.jsonl").write_bytes(damaged(rng, lines))
                runlog.read_metrics(folder / "metrics.jsonl")
            counts["accepted"] += 1
        except (config.ConfigError, runlog.LogError) as error:
            # A file that is still readable may hold a wrong value: then the key is named.
            named = {"config": keys, "config.json": [which, *plain]}.get(which, [which])
            assert any(key in str(error) for key in named), (named, str(error))
    return {"cases": cases, **counts, "unexpected": 0}


def damaged(rng, data):
    data = bytearray(data)
    kind = rng.randrange(3)
    if kind == 0:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(200)))
    if kind == 1:
        return bytes(data[: rng.randrange(len(data))])
    for _ in range(rng.randint(1, 6)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def soak(folder, epochs):
    """A long run with evaluation and a save every epoch: memory and open files stay flat."""
    process = start(folder / "soak", f"--config.epochs={epochs}", "--config.keep=2")
    samples, started = [], time.monotonic()
    with process.stdout as lines:
        for line in lines:
            if not line.startswith("epoch "):
                continue
            status = Path(f"/proc/{process.pid}/status").read_text()
            memory = int(status.split("VmRSS:")[1].split()[0]) / 1024
            files = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
            samples.append((memory, files))
    assert process.wait() == 0
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    median = lambda rows, i: float(np.median([row[i] for row in rows]))  # noqa: E731
    found = {
        "steps": 17 * epochs,
        "saves": epochs,
        "minutes": (time.monotonic() - started) / 60,
        "resident_MiB_second_quarter": median(early, 0),
        "resident_MiB_last_quarter": median(late, 0),
        "open_files_second_quarter": median(early, 1),
        "open_files_last_quarter": median(late, 1),
    }
    growth = found["resident_MiB_last_quarter"] / found["resident_MiB_second_quarter"]
    assert growth < 1.05, found
    assert found["open_files_last_quarter"] <= found["open_files_second_quarter"] + 2, found
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--only", default="", help="one part, by its name in the file")
    parser.add_argument("--corruptions", type=int, default=None, help="fewer of them")
    arguments = parser.parse_args()
    import output_campaign  # it uses this module

    out = Path(arguments.out)
    found = json.loads(out.read_text()) if out.exists() else {}
    found["machine"] = {
        "cpus": os.cpu_count(), "python": platform.python_version(), "jax": jax.__version__,
    }  # fmt: skip
    parts = {
        "kills": lambda folder: kills(folder, 24, 8, epochs=240),
        "corruptions": lambda folder: corruptions(folder, limit=arguments.corruptions),
        "fuzz": lambda folder: fuzz(folder, 6000),
        "soak": lambda folder: soak(folder, 600),
        "odd_paths": lambda folder: checkpoint_campaign.odd_paths(folder, 300),
        "mixed_checkpoints": lambda folder: checkpoint_campaign.mixed(folder, 300),
        "foreign_headers": lambda folder: data_campaign.foreign_headers(folder, 60),
        "broken_output": lambda folder: output_campaign.broken_output(folder, 64),
        "process_groups": lambda folder: output_campaign.process_groups(folder),
        "lost_samples": lambda folder: data_campaign.lost_samples(folder, 300),
        "user_datasets": lambda folder: own_data_campaign.user_datasets(folder, 6),
        "foreign_files": foreign_campaign.foreign_files,
    }
    for name, part in parts.items():
        if arguments.only in ("", name):
            with tempfile.TemporaryDirectory() as folder:
                found[name] = part(Path(folder))
            print(name, found[name], flush=True)
            out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

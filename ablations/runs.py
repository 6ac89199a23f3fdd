"""Many runs of train.py that differ in a few keys and the seed, and what each of them gave.

Every run is a process and a workdir of its own, so all that holds for a run holds here: a killed
series is started again by the same command, and only what is missing is trained. Separate
processes were the faster way on CPU; eight seeds in one program took as long or four times longer.
"""

import argparse
import concurrent.futures
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from dalif_jax.analysis.figures import numbers_of
from dalif_jax.runs.report import commit
from dalif_jax.runs.runlog import duration, read_metrics
from dalif_jax.settings import config as configs

ROOT = Path(__file__).resolve().parent.parent
RUNNING = set()  # processes of train.py


def arguments(description, seeds=5, choices=None, options=None):
    """The flags every ablation takes; further --config.key=value go to train.py as they are.

    Args:
      choices: {flag: all its values}, what an ablation goes over; `--flag a,b` takes a part.
      options: {flag: what argparse is told of it}, further ones that may be given.
    """
    parser = argparse.ArgumentParser(
        description=description.splitlines()[0],
        epilog="--config.key=value sets a key of every run.",
    )
    for flag, how in (options or {}).items():
        parser.add_argument(f"--{flag}", **how)
    for flag, values in (choices or {}).items():
        kind, every = type(values[0]), ",".join(map(str, values))
        parser.add_argument(
            f"--{flag}", type=lambda text, k=kind: tuple(map(k, text.split(","))), default=values,
            help=f"some of {every}; all unless given",
        )  # fmt: skip
    parser.add_argument("--config", required=True, help="a file of configs/")
    parser.add_argument("--workdir", required=True, type=Path, help="where the runs are to live")
    parser.add_argument("--seeds", type=int, default=seeds, help="runs of every setting")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, cores shared out")
    known, rest = parser.parse_known_args()
    known.parts = tuple(choices or ())
    wrong = [word for word in rest if not word.startswith("--config.") or "=" not in word]
    if wrong:
        parser.error(f"unknown argument {wrong[0]}; a run's keys are --config.key=value")
    for flag, values in (choices or {}).items():
        for word in getattr(known, flag):
            if word not in values:
                parser.error(f"--{flag}: {word} is none of {', '.join(map(str, values))}")
    for key in ("seeds", "jobs"):
        if getattr(known, key) < 1:
            parser.error(f"--{key}={getattr(known, key)} must be at least 1")
    if not Path(known.config).is_file():
        parser.error(f"--config={known.config} does not exist")
    return known, rest


class RunFailed(SystemExit):
    """A run ended otherwise than with its result."""


def series(given, rest, settings, keep_failed=False):
    """Train every setting with every seed.

    Args:
      given, rest: from `arguments`.
      settings: {name: {key: value}}, the keys that make a setting.
      keep_failed: a run that fails is a record too, {name, seed, command, failed: why}, and the
        series goes on; the same command tries it again.
    Returns:
      list of records (see `record`), also written to results.json in the workdir.
    Raises:
      RunFailed: a run failed; its log is named.
    """
    tasks = [
        (name, seed, [f"--config.{key}={value}" for key, value in keys.items()])
        for seed in range(given.seeds)
        for name, keys in settings.items()
    ]
    shares = [cores()[i :: given.jobs] for i in range(given.jobs)]
    waiting = [task for task in tasks if not finished(*command_of(given, rest, *task))]
    print(announcement(given, len(settings), len(waiting)), flush=True)
    started, timed = time.perf_counter(), None
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        free = list(shares)  # a job takes cores and gives them back

        def one(task):
            name, seed, _ = task
            share, began = free.pop(), time.perf_counter()
            try:
                workdir, command = command_of(given, rest, *task)
                return train(workdir, command, name, seed, share), time.perf_counter() - began
            except RunFailed:
                if not keep_failed:
                    raise
                return failure(workdir, command, name, seed), time.perf_counter() - began
            finally:
                free.append(share)

        records = []
        # A kill of the series ends its runs too; each saves its step, the same command goes on.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            for task, (done, seconds) in zip(tasks, pool.map(one, tasks), strict=True):
                records.append(done)
                gave = done.get("failed") or f"{done['accuracy']:.2%}"
                print(
                    f"{len(records)}/{len(tasks)}  {done['name']}, seed {done['seed']}: "
                    f"{gave}  ({time.perf_counter() - started:.0f} s)",
                    flush=True,
                )
                if timed is None and task in waiting and len(waiting) > 1:
                    timed, left = seconds, len(waiting) - 1
                    rounds = -(-left // given.jobs)
                    print(
                        f"{left} more at the pace of the first, {duration(timed)}: about "
                        f"{duration(rounds * timed)}; Ctrl-C stops, the same command goes on",
                        flush=True,
                    )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(RUNNING):
                process.terminate()
            raise
    path = given.workdir / "results.json"
    rows = ",\n".join(json.dumps(record) for record in records)  # a line a run
    head = json.dumps(machine())[:-1]
    path.write_text(f'{head}, "runs": [\n{rows}\n]}}\n')
    print(f"wrote {path}")
    return records


def command_of(given, rest, name, seed, keys):
    """(workdir, command) of one run; `named`: the setting is a recipe of that name in the file."""
    keys = [*rest, *keys, f"--config.seed={seed}"]
    recipe = f"{given.config}:{name}" if getattr(given, "named", False) else given.config
    return given.workdir / name / f"seed{seed}", ["train.py", "--config", recipe, *keys]


def finished(workdir, command):
    """Whether the workdir holds the result of this very command."""
    note = workdir / "run.json"
    before = json.loads(note.read_text()) if note.exists() else {}
    return (workdir / "eval.json").exists() and before.get("command") == command


def announcement(given, settings, waiting):
    """What a series is about to do and how to do less, a line."""
    total = settings * given.seeds
    done = f", {total - waiting} of them finished" if waiting < total else ""
    pace = f"{given.jobs} at a time" if given.jobs > 1 else "one after the other"
    less = ", ".join(f"--{flag}" for flag in ("seeds", *given.parts))
    return (
        f"{counted(total, 'run')} of {given.config}: {counted(settings, 'setting')} x "
        f"{counted(given.seeds, 'seed')}{done}, {pace}; "
        f"{less} and --config.epochs=N make it less"
    )


def counted(number, word):
    return f"{number} {word}{'s' * (number != 1)}"


def train(workdir, command, name, seed, share):
    """One run, unless it is finished; its record.

    `others_cores` is how many cores other processes kept busy meanwhile: what a time is worth.
    """
    note = workdir / "run.json"
    before = json.loads(note.read_text()) if note.exists() else {"seconds": 0.0}
    if not finished(workdir, command):
        workdir.mkdir(parents=True, exist_ok=True)
        log, started, busy = workdir / "log.txt", time.perf_counter(), busy_seconds()
        with open(log, "a") as out:
            process = subprocess.Popen(
                [sys.executable, ROOT / command[0], *command[1:], "--workdir", workdir.resolve()],
                cwd=Path.cwd(), stdout=out, stderr=subprocess.STDOUT,
                preexec_fn=(lambda: os.sched_setaffinity(0, share)) if share else None,
            )  # fmt: skip
            RUNNING.add(process)
            code, own = ended(process)
            RUNNING.discard(process)
        if code:
            tail = "".join(log.read_text().splitlines(keepends=True)[-5:])
            raise RunFailed(f"error: {name}, seed {seed} ended with {code}; {log} ends:\n{tail}")
        took = time.perf_counter() - started
        before = {"command": command, "seconds": before["seconds"] + took, "commit": commit()}
        if busy is not None and own is not None:
            others = max(0.0, busy_seconds() - busy - own) / took
            before["others_cores"] = round(others, 2)
        note.write_text(json.dumps(before, indent=1) + "\n")
    return {"name": name, "seed": seed, **before, "command": public(command), **record(workdir)}


def ended(process):
    """(exit code, seconds of all cores it took or None) of a process that is waited for."""
    if not hasattr(os, "wait4"):
        return process.wait(), None
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except ChildProcessError:  # a signal to it had looked after it first
        return process.wait(), None
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def busy_seconds():
    """Seconds that all cores together were busy since the machine started; None without Linux."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _, _, irq, softirq, steal = map(
        int, stat.read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def failure(workdir, command, name, seed):
    """The record of a run that failed: its error in one line."""
    lines = (workdir / "log.txt").read_text().splitlines() or ["it said nothing"]
    said = [line for line in lines if line.startswith("error: ")] or lines
    reason = said[-1].removeprefix("error: ")
    return {"name": name, "seed": seed, "command": public(command), "failed": reason}


def public(command):
    """A command without where the data lay, which is this machine's affair."""
    return [re.sub(r"(--config\.(data|cache)_dir=).*", r"\1...", word) for word in command]


def record(workdir):
    """What a finished run gave, as plain numbers.

    Accuracies on the test set: of the last epoch, and the best epoch's beside it. `curve`,
    `curve_seconds` (since the start of training) and `decays` are per evaluated epoch.
    """
    settings, workdir = configs.load(workdir), Path(workdir)
    report = json.loads((workdir / "eval.json").read_text())
    lines = read_metrics(workdir / "metrics.jsonl")
    evals = [line for line in lines if line["kind"] == "eval"]
    # The first line has no rate where it is of the compiling step alone.
    rates = [line["images_per_second"] for line in lines if line["kind"] == "train"]
    rates = [rate for rate in rates if rate is not None] or [0.0]

    def mean(value):
        """Over channels, with the digits of a float32: what hardly moved must not look still."""
        return float(f"{statistics.fmean(value if isinstance(value, list) else [value]):.9g}")

    return {
        "model": settings.model, "dataset": settings.dataset, "neuron": settings.neuron,
        "timesteps": settings.timesteps, "epochs": settings.epochs,
        "membrane_bn": settings.membrane_bn, "decay_function": settings.decay_function,
        "parameters": report["parameters"], "examples": report["examples"],
        "accuracy": report["accuracy"], "best": max(line["accuracy"] for line in evals),
        "best_on": evals[-1]["split"], "device": evals[-1].get("device"),
        **({"mirrored_views": report["mirrored_views"]} if "mirrored_views" in report else {}),
        "other_splits": {k: v["accuracy"] for k, v in report["other_splits"].items()},
        "images_per_second": round(statistics.median(rates), 1),
        "batch_size": settings.batch_size, "peak_mb": evals[-1].get("peak_mb"),
        "energy_uj": {rule: report["energy"][rule]["energy_uj"] for rule in ("paper", "exact")},
        "firing_rates": {k: round(v["firing_rate"], 5) for k, v in report["layers"].items()},
        "curve": [[line["epoch"], round(line["accuracy"], 5)] for line in evals],
        # What the log says survives kills; runs older than it have what the series measured.
        **({"seconds": evals[-1]["seconds"]} if "seconds" in evals[-1] else {}),
        "curve_seconds": [line.get("seconds") for line in evals],
        "decays": {
            name: {key: [mean(line["layers"][name][key]) for line in evals]
                   for key in numbers_of(evals)}
            for name in report["layers"]
        },
    }  # fmt: skip


def cores():
    """The cores this process may use; empty where the system does not bind processes to cores."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def machine():
    """What the runs were measured on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    return {
        "cpu": name or platform.processor(), "cores": len(cores()) or os.cpu_count(),
        "python": platform.python_version(), "jax": version("jax"), "flax": version("flax"),
    }  # fmt: skip

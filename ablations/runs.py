"""Many runs of train.py that differ in a few keys and the seed, and what each of them gave.

Every run is a process and a workdir of its own, so all that holds for a run holds here: a killed
series is started again by the same command, and only what is missing is trained. Separate
processes were the faster way on CPU; eight seeds in one program took as long or four times longer.
"""

import argparse
import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ablations.records import cores, failure, going_on, public, read, record, save
from dalif_jax.runs.report import commit
from dalif_jax.runs.runlog import duration

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
    parser.add_argument(
        "--known", type=read, action="append", default=[], metavar="FILE",
        help="results.json of the same series: its runs are taken from it, not trained again; "
             "several may be given",
    )  # fmt: skip
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
      list of records (see `record`), those of --known first; results.json in the workdir holds
      them, and while the series runs those that there are.
    Raises:
      RunFailed: a run failed; its log is named.
      SystemExit: --known is of another series.
    """
    tasks = [
        (name, seed, [f"--config.{key}={value}" for key, value in keys.items()])
        for seed in range(given.seeds)
        for name, keys in settings.items()
    ]
    asked = {task[:2]: public(command_of(given, rest, *task)[1]) for task in tasks}
    records = going_on(given.known, asked)
    known = {(record["name"], record["seed"]) for record in records}
    tasks = [task for task in tasks if task[:2] not in known]
    shares = [cores()[i :: given.jobs] for i in range(given.jobs)]
    waiting = [task for task in tasks if not finished(*command_of(given, rest, *task))]
    print(announcement(given, len(settings), len(waiting)), flush=True)
    started, times = time.perf_counter(), []
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

        path = given.workdir / "results.json"
        # A kill of the series ends its runs too; each saves its step, the same command goes on.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            outcomes = zip(tasks, pool.map(one, tasks), strict=True)
            for number, (task, (done, seconds)) in enumerate(outcomes, 1):
                records.append(done)
                save(path, records)
                times += [seconds] if task in waiting else []
                left = len(waiting) - len(times)
                told = f", about {duration(ahead(times, left, given.jobs))} left"
                gave = done.get("failed") or f"{done['accuracy']:.2%}"
                print(
                    f"{number}/{len(tasks)}  {done['name']}, seed {done['seed']}: {gave}  "
                    f"({time.perf_counter() - started:.0f} s{told if left and times else ''})",
                    flush=True,
                )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(RUNNING):
                process.terminate()
            raise
    save(path, records)  # where all of them were known
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
        f"{less} and --config.epochs=N make it less; Ctrl-C stops, the same command goes on"
    )


def ahead(times, left, jobs):
    """Seconds that `left` runs take, `jobs` at a time, if they take as long as those before.

    Settings differ, and a run that was killed goes on from its middle: the mean of all is said anew
    after each run.
    """
    return -(-left // jobs) * sum(times) / max(1, len(times))


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

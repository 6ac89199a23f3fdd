"""F. How long a user waits: from the command to the first step, without and with its cache.

    python benchmarks/start.py

Cold is with an empty cache folder, as after installing; warm is the same command again. The median
of the rounds; files of the system are in memory, as they are for who works.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure

DIGITS = ("train.py", "--config", "configs/digits.py")
STEP = "--config.log_every=1"  # the first step is in the log as soon as it is done


def environment(cache):
    # Ours alone: no allocator settings, as a user starts it.
    return os.environ | {"XDG_CACHE_HOME": str(cache), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}


def whole(cache, *words):
    """Seconds until the command ends."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *words], cwd=measure.ROOT, env=environment(cache), check=True,
        capture_output=True,
    )  # fmt: skip
    return time.perf_counter() - started


def first_step(cache):
    """Seconds until a run of digits has logged its first step; it is ended there."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        log = workdir / "metrics.jsonl"
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *DIGITS, "--workdir", workdir, STEP], cwd=measure.ROOT,
            env=environment(cache), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while not (log.exists() and any(map(is_step, log.read_text().splitlines()))):
            if process.poll() is not None:
                raise SystemExit(f"the run ended with {process.returncode} before its first step")
            time.sleep(0.02)
        seconds = time.perf_counter() - started
        process.kill()
        process.wait()
        return seconds


def is_step(line):
    try:
        return json.loads(line)["kind"] == "train"
    except ValueError:  # half written
        return False


WAITS = {
    "import dalif_jax.networks": lambda cache: whole(cache, "-c", "import dalif_jax.networks"),
    "train.py --dry_run of digits": lambda cache: whole(cache, *DIGITS, "--dry_run"),
    "the first step of digits": first_step,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="start_cpu")
    arguments, conditions = measure.parse(parser)
    records = []
    for name, wait in WAITS.items():
        seconds = {"cold": [], "warm": []}
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as cache:
                for kind in seconds:
                    seconds[kind].append(wait(cache))
        records.append({"name": name} | {k: statistics.median(v) for k, v in seconds.items()})
        print(name, {kind: f"{records[-1][kind]:.1f} s" for kind in seconds}, flush=True)
    import jax

    measure.write(arguments.out, records, jax=jax.__version__, **conditions)


if __name__ == "__main__":
    main()

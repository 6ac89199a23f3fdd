"""What a run of a series gave, as a record, and the file of all records: results.json.

A file begins with the machine that its series ran on; a record of another machine names its own.
"""

import argparse
import json
import os
import platform
import re
import statistics
from importlib.metadata import version
from pathlib import Path

from dalif_jax.analysis.figures import numbers_of
from dalif_jax.runs.runlog import read_metrics
from dalif_jax.settings import config as configs


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
    """What the runs were measured on. Clouds' names of a processor hide which one it is; its family
    and model do not."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    of = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in reversed(lines))}
    return {
        "cpu": of.get("model name") or platform.processor(),
        "cpu_kind": " ".join(of[k] for k in ("cpu family", "model") if k in of),
        "cores": len(cores()) or os.cpu_count(),
        "python": platform.python_version(), "jax": version("jax"), "flax": version("flax"),
    }  # fmt: skip


def save(path, records):
    """Write records to a file, a line each, below the machine; whole at every time."""
    here = machine()
    own = [{k: v for k, v in r.items() if (k, v) != ("machine", here)} for r in records]
    rows = ",\n".join(map(json.dumps, own))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_text(f'{json.dumps(here)[:-1]}, "runs": [\n{rows}\n]}}\n')
    unfinished.replace(path)


def read(path):
    """Records of a file of `save`, each with its machine, as argparse asks for it.

    Raises:
      argparse.ArgumentTypeError: it cannot be read, or holds something else.
    """
    try:
        head = json.loads(Path(path).read_text())
        runs = head.pop("runs")
        if not all({"name", "seed", "command"} <= run.keys() for run in runs):
            raise ValueError("a run without name, seed or command")
        return [{"machine": head, **run} for run in runs]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise argparse.ArgumentTypeError(
            f"{path} is no results.json of a series ({type(error).__name__}: {error})"
        ) from error


def going_on(files, asked):
    """Records of other files that a series goes on from: each run once, those that failed not
    where the series is to try them again.

    Args:
      files: list of what `read` gives.
      asked: {(name, seed): public command} of the series.
    Raises:
      SystemExit: a run of a file is by another command than the series would run it by, or of
        another recipe.
    """
    found, recipes = {}, {command[2].partition(":")[0] for command in asked.values()}
    for run in (run for file in files for run in file):
        key = run["name"], run["seed"]
        if (recipe := run["command"][2].partition(":")[0]) not in recipes:
            raise SystemExit(f"error: --known: {key[0]}, seed {key[1]} is of {recipe}, not of "
                             f"{', '.join(recipes)}")  # fmt: skip
        if key in asked and told(run["command"]) != told(asked[key]):
            raise SystemExit(
                f"error: --known: {key[0]}, seed {key[1]} was trained by another command\n"
                f"  known: {' '.join(run['command'])}\n  asked: {' '.join(asked[key])}"
            )
        if key not in found or "failed" in found[key]:
            found[key] = run
    return [run for key, run in found.items() if "failed" not in run or key not in asked]


def told(command):
    """A command without where its data lay."""
    return [word for word in public(command) if not word.endswith("_dir=...")]

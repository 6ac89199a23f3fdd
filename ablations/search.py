"""Every system at its best of nine: learning rates and surrogates, as many trials for each.

    python -m ablations.search --config configs/digits_dvs.py --workdir runs/search --seeds 2

One recipe for all favours what its learning rate suits. Here each setting of `ablations.systems` is
trained with a third, one and three times its learning rate, and with three surrogates; the trial
that is best on the test set is taken, and where the data has a further split (`unseen_writers` of
the digits), what it gives there is beside it: that split has chosen nothing.
"""

import runpy
from statistics import fmean
from typing import NamedTuple

from ablations import systems
from ablations.runs import arguments, series
from ablations.tables import table

FACTORS = (0.333, 1.0, 3.0)
SURROGATES = ("rectangle", "triangle", "arctan")


class Best(NamedTuple):
    """The best trial of a setting."""

    name: str
    trial: str  # "lr x 3, arctan"; "" where every trial failed
    accuracy: float  # mean over seeds on the test set, which chose it
    held_out: float | None  # on the further split
    trials: int  # that ended, of len(FACTORS) * len(SURROGATES)


def settings(names, learning_rate):
    """{"NAME, lr x FACTOR, SURROGATE": {key: value}} of the systems `names`.

    Args:
      learning_rate: the host's, for those that have none of their own.
    """
    every = systems.settings()
    return {
        f"{name}, lr x {factor:g}, {surrogate}": every[name]
        | {
            "learning_rate": float(f"{factor * every[name].get('learning_rate', learning_rate):g}"),
            "surrogate": surrogate,
        }
        for name in names
        for factor in FACTORS
        for surrogate in SURROGATES
    }


def best(records):
    """Best rows of a series, best first; a trial counts where all its seeds ended."""
    trials, failed = {}, set()
    for record in records:
        if "failed" in record:
            failed.add(record["name"])
        trials.setdefault(record["name"], []).append(record)
    found = {}
    for name, runs in trials.items():
        system, trial = name.split(", ", 1)
        rows = found.setdefault(system, [])
        if name not in failed:
            others = [fmean(run["other_splits"].values()) for run in runs if run["other_splits"]]
            held_out = fmean(others) if others else None
            rows.append((fmean(run["accuracy"] for run in runs), trial, held_out))
    out = []
    for system, rows in found.items():
        accuracy, trial, held_out = max(rows, key=lambda row: row[0], default=(0.0, "", None))
        out.append(Best(system, trial, accuracy, held_out, len(rows)))
    return sorted(out, key=lambda row: (-row.accuracy, row.name))


def page(records):
    """Markdown lines of what a search gave."""
    rows = [
        (
            f"`{row.name}`", row.trial or "every trial failed",
            f"{100 * row.accuracy:.2f}" if row.trial else "",
            "" if row.held_out is None else f"{100 * row.held_out:.2f}", row.trials,
        )
        for row in best(records)
    ]  # fmt: skip
    return table(
        ("setting", "best trial", "test, %", "a split that chose nothing, %", "trials"), rows
    )


def main():
    # A surrogate cannot be both what is compared and what is searched.
    every = tuple(name for name in systems.settings() if systems.kind_of(name) != "surrogate")
    given, rest = arguments(__doc__, seeds=1, choices={"systems": every})
    rate = runpy.run_path(given.config)["get_config"]().learning_rate
    print("\n".join(page(series(given, rest, settings(given.systems, rate), keep_failed=True))))


if __name__ == "__main__":
    main()

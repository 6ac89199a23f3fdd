"""Every system at its best of nine: learning rates and surrogates, as many trials for each.

    python -m ablations.search --config configs/digits_dvs.py --workdir runs/search --seeds 2

One recipe for all favours what its learning rate and surrogate suit. Here each setting of
`ablations.systems` is trained as it stands, with a third and three times its learning rate, and
each of these with two further surrogates; a neuron that takes no surrogate has nine learning
rates instead. The trial that is best on the test set is taken, and where the data has a further
split (`unseen_writers` of the digits), what it gives there is beside it: that split has chosen
nothing.
"""

import runpy
from statistics import fmean
from typing import NamedTuple

from ablations import systems
from ablations.host_table import marked, titled
from ablations.runs import arguments, series
from ablations.tables import table
from configs.base import get_config as base
from dalif_jax import neurons
from dalif_jax.settings.pieces import neuron_options

FACTORS = (1.0, 0.333, 3.0)
# As many where there is no surrogate to choose, from a ninth to nine times.
FINE = (1.0, 0.333, 3.0, 0.111, 0.192, 0.577, 1.73, 5.2, 9.0)
SURROGATES = ("rectangle", "triangle", "arctan")
TRIALS = len(FACTORS) * len(SURROGATES)


class Best(NamedTuple):
    """The best trial of a setting."""

    name: str
    trial: str  # "lr x 3, arctan"; "" where every trial failed
    accuracy: float  # mean over seeds on the test set, which chose it
    held_out: float | None  # on the further split
    trials: int  # that ended, of TRIALS
    first: float | None  # accuracy of the setting as it stands; None where that trial failed


def settings(names, learning_rate):
    """{"NAME, lr x FACTOR, SURROGATE": {key: value}} of the systems `names`, TRIALS of each.

    The first of a system is as it stands, with its own learning rate and surrogate.

    Args:
      learning_rate: the host's, for those that have none of their own.
    """
    every = systems.settings()
    return {
        f"{name}, {words}": every[name] | keys
        for name in names
        for words, keys in trials(every[name], learning_rate)
    }


def trials(keys, learning_rate):
    """(words, {key: value}) of each trial of a setting, `keys`."""
    plain = base()
    plain.update_from_flattened_dict(keys)
    own = plain.surrogate
    rate = keys.get("learning_rate", learning_rate)
    rates = [(f"lr x {factor:g}", float(f"{factor * rate:g}")) for factor in FINE]
    if neurons.refusal(neuron_options(plain), "surrogate"):
        return [(words, {"learning_rate": value}) for words, value in rates]
    others = [surrogate for surrogate in SURROGATES if surrogate != own]
    return [
        (f"{words}, {surrogate}", {"learning_rate": value, "surrogate": surrogate})
        for surrogate in (own, *others[: len(SURROGATES) - 1])
        for words, value in rates[: len(FACTORS)]
    ]


def best(records):
    """Best rows of a series, best first; a trial counts where all its seeds ended."""
    by_trial, failed = {}, set()
    for record in records:
        if "failed" in record:
            failed.add(record["name"])
        by_trial.setdefault(record["name"], []).append(record)
    found, first = {}, {}
    for name, runs in by_trial.items():
        system, trial = name.split(", ", 1)
        rows = found.setdefault(system, [])
        accuracy = None
        if name not in failed:
            others = [fmean(run["other_splits"].values()) for run in runs if run["other_splits"]]
            accuracy = fmean(run["accuracy"] for run in runs)
            rows.append((accuracy, trial, fmean(others) if others else None))
        first.setdefault(system, accuracy)
    out = []
    for system, rows in found.items():
        accuracy, trial, held_out = max(rows, key=lambda row: row[0], default=(0.0, "", None))
        out.append(Best(system, trial, accuracy, held_out, len(rows), first[system]))
    return sorted(out, key=lambda row: (-row.accuracy, row.name))


def page(records):
    """Markdown lines of what a search gave."""
    rows = [
        (
            titled(row.name), "failed" if row.first is None else f"{100 * row.first:.2f}",
            row.trial or "every trial failed", f"{100 * row.accuracy:.2f}" if row.trial else "",
            "" if row.held_out is None else f"{100 * row.held_out:.2f}", row.trials,
        )
        for row in best(records)
    ]  # fmt: skip
    return table(
        ("setting", "as it stands, test, %", "best trial", "its test, %",
         "a split that chose nothing, %", "trials that ended"), rows,
    )  # fmt: skip


def draw(records, path):
    """Settings below each other, best first: as they stand, their best trial, and what that gives
    on the split that chose nothing."""
    from dalif_jax.analysis.figures import BLUE, GREY, ORANGE, panels

    rows = best(records)
    figure, (axis,) = panels(1, width=6.0, height=1.2 + 0.22 * len(rows))
    places = range(len(rows) - 1, -1, -1)
    kinds = (
        ("as it stands", GREY, "o", [row.first for row in rows]),
        ("a split that chose nothing", ORANGE, "D", [row.held_out for row in rows]),
        ("its best trial", BLUE, "o", [row.accuracy if row.trial else None for row in rows]),
    )
    for row, place in zip(rows, places, strict=True):
        if row.trial and row.first is not None:
            axis.plot([100 * row.first, 100 * row.accuracy], [place] * 2, color=GREY, lw=0.8)
    for label, colour, marker, values in kinds:
        shown = [(100 * x, y) for x, y in zip(values, places, strict=True) if x is not None]
        if shown:
            axis.plot(*zip(*shown, strict=True), marker, color=colour, ms=5, label=label)
    axis.set_yticks(places, [marked(row.name, row.name) for row in rows])
    axis.set(xlabel="accuracy, last epoch (%)")
    axis.set_ylim(-0.7, len(rows) - 0.3)
    axis.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncol=3)
    figure.savefig(path)


def main():
    # A surrogate cannot be both what is compared and what is searched.
    every = tuple(name for name in systems.settings() if systems.kind_of(name) != "surrogate")
    given, rest = arguments(__doc__, seeds=1, choices={"systems": every})
    rate = runpy.run_path(given.config)["get_config"]().learning_rate
    records = series(given, rest, settings(given.systems, rate), keep_failed=True)
    print("\n".join(page(records)))
    draw(records, given.workdir / "search.png")


if __name__ == "__main__":
    main()

"""Accuracy against minutes of the recipes of one data set on one kind of machine, as a picture."""

from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from ablations.runs import counted
from ablations.tables import ended

DATASET = "cifar10"


class Point(NamedTuple):
    """A recipe's runs, one entry of a list a seed."""

    recipe: str
    timesteps: int
    minutes: list
    accuracies: list  # %
    rate: float  # images/s, the mean

    def at(self):
        """(mean minutes, mean accuracy)."""
        return fmean(self.minutes), fmean(self.accuracies)

    def bars(self):
        """(down, up) from the mean accuracy to the least and the largest."""
        mean = fmean(self.accuracies)
        return mean - min(self.accuracies), max(self.accuracies) - mean


def points(all_series):
    """[Point] of the recipes in docs/runs, by T and minutes.

    A seed's minutes are of its training with compilation and evaluations; what a machine does in a
    second is another from hour to hour where others share it, so the mean rate stands beside them.
    """
    found = []
    for name, series in all_series.items():
        if not name.startswith("runs/"):
            continue
        by = {}
        for run in ended(series["runs"]):
            if run["dataset"] == DATASET and (run["device"] or "cpu").endswith("cpu"):
                by.setdefault((Path(run["command"][2]).stem, run["timesteps"]), []).append(run)
        for (recipe, t), runs in by.items():
            minutes = [run["seconds"] / 60 for run in runs]
            rate = fmean(run["images_per_second"] for run in runs)
            accuracies = [100 * run["accuracy"] for run in runs]
            found.append(Point(recipe, t, minutes, accuracies, rate))
    return sorted(found, key=lambda point: (point.timesteps, point.at()))


def draw(all_series, path):
    """Mean accuracy against mean minutes, a line a number of timesteps; bars: range over seeds."""
    from dalif_jax.analysis.figures import BLUE, GREEN, ORANGE, panels

    colours = {1: BLUE, 2: ORANGE, 4: GREEN}
    figure, (axis,) = panels(1, width=6.0, height=4.0)
    found = points(all_series)
    for t in sorted({point.timesteps for point in found}):
        of = [point for point in found if point.timesteps == t]
        x, y = zip(*(point.at() for point in of), strict=True)
        bars = list(zip(*(point.bars() for point in of), strict=True))
        axis.errorbar(x, y, yerr=bars, fmt="o-", color=colours.get(t, "0.3"), capsize=3,
                      label=f"T = {t}")  # fmt: skip
        for point in of:
            seeds = counted(len(point.minutes), "seed")
            label = f"{point.recipe}, {seeds},\n{point.rate:.0f} images/s"
            axis.annotate(label, point.at(), xytext=(-6, 4), ha="right",
                          textcoords="offset points", fontsize=8)  # fmt: skip
    right = max((max(point.minutes) for point in found), default=1)
    axis.set(xlabel="minutes of a run", ylabel="test accuracy, last epoch (%)",
             xlim=(0, 1.1 * right))  # fmt: skip
    axis.margins(y=0.25)
    if found:
        axis.legend(frameon=False, loc="lower right")
    figure.savefig(path)

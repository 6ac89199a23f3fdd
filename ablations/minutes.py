"""Accuracy against minutes of the recipes of one data set on one kind of machine, as a picture."""

from pathlib import Path
from statistics import fmean

from ablations.runs import counted

DATASET = "cifar10"


def points(all_series):
    """[(label, T, [minutes of each seed], [accuracy of each seed, %], images/s)] of docs/runs'
    recipes.

    A seed's minutes are of its training with compilation and evaluations; what a machine does in a
    second is another from hour to hour where others share it, so the mean rate stands beside them.
    """
    found = []
    for name, series in all_series.items():
        if not name.startswith("runs/"):
            continue
        by = {}
        for run in series["runs"]:
            if run["dataset"] == DATASET and (run["device"] or "cpu").endswith("cpu"):
                by.setdefault((Path(run["command"][2]).stem, run["timesteps"]), []).append(run)
        for (recipe, t), runs in by.items():
            minutes = [run["seconds"] / 60 for run in runs]
            rate = fmean(run["images_per_second"] for run in runs)
            found.append((recipe, t, minutes, [100 * run["accuracy"] for run in runs], rate))
    return sorted(found, key=lambda row: (row[1], fmean(row[2])))


def draw(all_series, path):
    """Mean accuracy against mean minutes, a line a number of timesteps; bars: range over seeds."""
    from dalif_jax.analysis.figures import BLUE, GREEN, ORANGE, panels

    colours = {1: BLUE, 2: ORANGE, 4: GREEN}
    figure, (axis,) = panels(1, width=6.0, height=4.0)
    rows = points(all_series)
    for t in sorted({row[1] for row in rows}):
        of = [row for row in rows if row[1] == t]
        x, y = [fmean(row[2]) for row in of], [fmean(row[3]) for row in of]
        low = [mean - min(row[3]) for mean, row in zip(y, of, strict=True)]
        high = [max(row[3]) - mean for mean, row in zip(y, of, strict=True)]
        axis.errorbar(x, y, yerr=[low, high], fmt="o-", color=colours.get(t, "0.3"), capsize=3,
                      label=f"T = {t}")  # fmt: skip
        for row, left, up in zip(of, x, y, strict=True):
            label = f"{row[0]}, {counted(len(row[2]), 'seed')},\n{row[4]:.0f} images/s"
            axis.annotate(label, (left, up), xytext=(-6, 4), ha="right",
                          textcoords="offset points", fontsize=8)  # fmt: skip
    right = max((max(row[2]) for row in rows), default=1)
    axis.set(xlabel="minutes of a run", ylabel="test accuracy, last epoch (%)",
             xlim=(0, 1.1 * right))  # fmt: skip
    axis.margins(y=0.25)
    if rows:
        axis.legend(frameon=False, loc="lower right")
    figure.savefig(path)

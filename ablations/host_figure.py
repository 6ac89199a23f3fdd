"""The figure of systems under one recipe: accuracy against energy, a panel a host.

Takes docs/hosts/*.json as host_table.py does; `python -m ablations.results` draws it.
"""

from statistics import fmean

from ablations.host_table import marked, with_most
from ablations.ranking import rank
from ablations.statistics import interval
from ablations.systems import BASELINE, kind_of
from ablations.tables import by_name
from dalif_jax.analysis import figures

COLOURS = {
    "neuron": figures.BLUE, "norm": figures.ORANGE, "loss": figures.GREEN,
    "surrogate": figures.PURPLE, "attention": "#56B4E9", "dalif": "#F0E442",
    "system": figures.GREY, "baseline": "black",
}  # fmt: skip
LABELS = {
    "baseline": "lif, the baseline", "system": "a paper's whole system", "dalif": "DA-LIF's options"
}  # fmt: skip


def draw(all_series, path):
    """Accuracy against energy, a panel for each host of most settings; intervals of the difference
    from the baseline."""
    all_series = with_most(all_series)
    fig, axes = figures.panels(len(all_series), width=7.0, height=5.0, across=2)
    for axis, (name, series) in zip(axes, all_series.items(), strict=True):
        by, rows = by_name(series["runs"]), rank(series["runs"], BASELINE)
        rows = [row for row in rows if row.values]
        base = next(row for row in rows if row.name == BASELINE)
        # What fails to learn would press all others into a line.
        low = max(min(100 * row.mean for row in rows) - 1, 100 * base.mean - 12)
        shown = [row for row in rows if 100 * row.mean >= low]
        points = {}
        for row in shown:
            points[row.name] = fmean(r["energy_uj"]["exact"] for r in by[row.name]), 100 * row.mean
            colour, kind = COLOURS[kind_of(row.name)], kind_of(row.name)
            half = (row.difference or interval(row.values)).half
            axis.errorbar(
                *points[row.name], yerr=100 * half,
                ms=8 if kind == "baseline" else 5, fmt="D" if kind == "baseline" else "o",
                color=colour, ecolor=colour, elinewidth=0.6, alpha=0.9, mec="0.3", mew=0.4,
                zorder=4 if kind == "baseline" else 3,
            )  # fmt: skip
        axis.axhline(100 * base.mean, color="0.6", lw=0.8, ls=":")
        high = max(y for _, y in points.values())
        axis.set_ylim(low, min(100.5, high + (high - low) / 8))
        axis.set(xlabel="energy of an image, exact rule (uJ)", ylabel="test accuracy (%)")
        figures.log_axis(axis)
        named = {BASELINE, "neuron-dalif", *(row.name for row in shown[:3])}
        named |= {row.name for row in shown if row.verdict == "higher"}
        label(axis, {marked(key, key): at for key, at in points.items() if key in named})
        one, below = by[BASELINE][0], len(rows) - len(shown)
        note = f"; {below} below the axis" if below else ""
        axis.set_title(f"{name}, T = {one['timesteps']}{note}", fontsize=10)
    marks = [
        axes[0].plot([], [], "o", color=colour, mec="0.3", label=LABELS.get(kind, kind))[0]
        for kind, colour in COLOURS.items()
    ]
    axes[0].legend(handles=marks, frameon=False, fontsize=8, loc="lower right")
    fig.savefig(path)


def label(axis, points):
    """Write names at their points, {name: (x, y)}, each below the one above it."""
    from matplotlib.patheffects import withStroke

    low, high = axis.get_ylim()
    left, right = axis.get_xlim()
    free = high
    for name, (x, y) in sorted(points.items(), key=lambda item: -item[1][1]):
        height = min(y, free)
        free = height - (high - low) / 28
        near_right = x > (left * right) ** 0.5
        axis.annotate(
            name, (x, y), xytext=(-9 if near_right else 9, (height - y) / (high - low) * 300),
            fontsize=8, textcoords="offset points", ha="right" if near_right else "left",
            va="center",
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "0.5"}, zorder=5,
            path_effects=[withStroke(linewidth=2, foreground="white")],  # points lie behind
        )  # fmt: skip

"""The figure of systems under one base recipe: accuracy against energy, a panel per recipe.

Reads docs/hosts/*.json as host_table.py does; `python -m ablations.results` draws it.
"""

from statistics import fmean

from ablations.host_table import marked, with_most
from ablations.ranking import rank
from ablations.statistics import interval
from ablations.systems import BASELINE
from ablations.tables import by_name
from dalif_jax.analysis import figures

NAMED = (BASELINE, "neuron-dalif")  # also where they are not on the front


def front(points):
    """The names that no other point beats, by increasing energy.

    Args:
      points: {name: (energy, accuracy)}.
    Returns:
      list: each has a higher accuracy than every point of the same or a lower energy.
    """
    names, best = [], float("-inf")
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if points[name][1] > best:
            best = points[name][1]
            names.append(name)
    return names


def draw(all_series, path):
    """Accuracy against energy, a panel for each base recipe that most variants ran on.

    The front and the variants of NAMED carry names and 95 % intervals; all others are grey. A
    variant below the axis is a triangle at its lower edge.
    """
    all_series = with_most(all_series)
    fig, axes = figures.panels(len(all_series), width=7.0, height=5.0, across=2)
    for axis, (name, series) in zip(axes, all_series.items(), strict=True):
        by = by_name(series["runs"])
        rows = {row.name: row for row in rank(series["runs"], BASELINE) if row.values}
        points = {
            key: (fmean(r["energy_uj"]["exact"] for r in by[key]), 100 * row.mean)
            for key, row in rows.items()
        }
        best = front(points)
        named = {*best, *(key for key in NAMED if key in points)}
        # The lowest energy belongs to a network that hardly fires: it does not set the scale.
        base = points[BASELINE][1]
        low, high = base - 8, max(y for _, y in points.values())
        for key, (x, y) in points.items():
            if y < low:
                axis.plot(x, low + 0.15, "v", color=figures.GREY, ms=5, alpha=0.7, zorder=2)
            elif key not in named:
                axis.plot(x, y, "o", color=figures.GREY, ms=4, alpha=0.6, mew=0, zorder=2)
        steps = [points[key] for key in best]
        axis.step(*zip(*steps, strict=True), where="post", color=figures.BLUE, lw=1, alpha=0.5)
        for key in named:
            colour = "black" if key == BASELINE else figures.BLUE
            colour = figures.ORANGE if key == "neuron-dalif" else colour
            half = (rows[key].difference or interval(rows[key].values)).half
            axis.errorbar(*points[key], yerr=100 * half, fmt="D" if key == BASELINE else "o",
                          ms=6, color=colour, elinewidth=0.8, zorder=4)  # fmt: skip
        axis.axhline(base, color="0.6", lw=0.8, ls=":")
        axis.set_ylim(low, min(100.5, high + (high - low) / 8))
        axis.set(xlabel="energy per example, exact rule (uJ)", ylabel="test accuracy (%)")
        figures.log_axis(axis)
        label(axis, {marked(key, key): points[key] for key in named if points[key][1] >= low})
        axis.set_title(f"{name}, T = {by[BASELINE][0]['timesteps']}", fontsize=10)
    marks = [
        axes[0].plot([], [], mark, color=colour, label=text)[0]
        for mark, colour, text in (
            ("o-", figures.BLUE, "best accuracy for its energy"),
            ("o", figures.ORANGE, "DA-LIF"),
            ("D", "black", "LIF, the baseline"),
            ("o", figures.GREY, "other variants"),
            ("v", figures.GREY, "below the axis"),
        )
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

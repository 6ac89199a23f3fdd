"""What a sweep gave: rows against its reference, a page and a picture, from its runs alone."""

import numpy as np

from ablations.ranking import rank
from ablations.runs import counted
from ablations.sweep import RECIPE
from ablations.tables import by_name, ended, keys_of, machine, names_of, percent, table, versions

HEAD = ("test, mean (range), %", "difference, paired by seed", "p (Holm)", "verdict")
SLANT = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}


def rows_of(runs):
    """Rows of `rank`, best mean first; the first run's setting is the reference."""
    return rank(runs, runs[0]["name"])


def swept(runs):
    """The keys that the settings differ in, in the order of the commands."""
    every = [keys_of(run) for run in runs]
    names = dict.fromkeys(key for keys in every for key in keys if key != "seed")
    return [key for key in names if len({keys.get(key) for keys in every}) > 1]


def comparisons(runs):
    """[{name, against, mean, low, high, seeds, p, corrected, verdict}] of every setting but the
    reference, in the order of the series; p and what Holm makes of it None where there is none."""
    rows, (reference, *names) = {row.name: row for row in rows_of(runs)}, names_of(runs)
    return [
        {
            "name": name, "against": reference, **rows[name].difference._asdict(),
            "p": rows[name].p, "corrected": rows[name].corrected, "verdict": rows[name].verdict,
        }
        for name in names
    ]  # fmt: skip


def lines(runs):
    """The table as printed."""
    rows = rows_of(runs)
    width = max(len(row.name) for row in rows)
    return [row.text(width) for row in rows] + [corrected_for(rows)]


def corrected_for(rows):
    """What the verdicts are, a line."""
    tested = sum(row.corrected is not None for row in rows)
    if not tested:
        return "verdicts: no difference has an interval, which takes two seeds or more that differ"
    return (
        "verdicts: against the reference, p corrected by Holm for "
        f"{counted(tested, 'comparison')}; each interval is its own difference's alone"
    )


def page(series):
    """Markdown lines of results.json: what was run, and its settings, best first."""
    runs = series["runs"]
    rows, keys, names = rows_of(runs), swept(runs), names_of(runs)
    told = {run["name"]: keys_of(run) for run in runs}
    common = [f"--config.{key}={value}" for key, value in told[names[0]].items()
              if key not in keys and key != "seed"]  # fmt: skip
    sound = ended(runs) or runs[:1]
    cells = []
    for row in rows:
        of = [told[row.name].get(key, "the recipe's") for key in keys]
        found, p = row.difference, row.corrected
        cells.append((
            *(f"`{value}`" if key in told[row.name] else value
              for key, value in zip(keys, of, strict=True)),
            percent(row.values) if row.values else "",
            found.text() if found and row.values else "", "" if p is None else f"{p:.2g}",
            row.said("the reference"),
        ))  # fmt: skip
    return [
        f"# {', '.join(f'`{key}`' for key in keys)}",
        "",
        f"`{' '.join([runs[0]['command'][2], *common])}`: {counted(len(names), 'setting')} x "
        f"{counted(len({run['seed'] for run in runs}), 'seed')}, {versions(series)}, "
        f"{machine(series, sound)}. Accuracy of the last epoch, best mean first; the reference is "
        f"`{names[0]}`; {corrected_for(rows)}. The best of many was chosen on this very test "
        "set: expect less of it on another.",
        "",
        *table((*(f"`{key}`" for key in keys), *HEAD), cells),
    ]


def draw(runs, axes, path):
    """A grid of two keys as a heat map; else a panel a key, every setting a dot.

    Args:
      runs: records of a series, at least one of which ended.
      axes: {key: log, linear or named}, of the Sweep.
      path: of the PNG.
    """
    means = {name: 100 * np.mean([run["accuracy"] for run in of])
             for name, of in by_name(runs).items()}  # fmt: skip
    told = {run["name"]: keys_of(run) for run in runs}
    reference = runs[0]["name"]
    if len(axes) == 2 and reference != RECIPE:
        figure = heat_map(means, told, list(axes), reference)
    else:
        figure = dots(means, told, axes, reference)
    figure.savefig(path)


def heat_map(means, told, keys, reference):
    """A figure: mean accuracy over two keys' values, the reference framed."""
    from dalif_jax.analysis.figures import ORANGE, panels

    down, across = (list(dict.fromkeys(of[key] for of in told.values())) for key in keys)
    values = np.full((len(down), len(across)), np.nan)
    places = {name: (down.index(of[keys[0]]), across.index(of[keys[1]]))
              for name, of in told.items()}  # fmt: skip
    for name, mean in means.items():
        values[places[name]] = mean
    figure, (axis,) = panels(1, width=3.0 + 0.8 * len(across),
                             height=max(3.4, 1.6 + 0.6 * len(down)))  # fmt: skip
    image = axis.imshow(values, cmap="viridis", aspect="auto")
    middle = (np.nanmax(values) + np.nanmin(values)) / 2
    for i, j in np.ndindex(values.shape):
        gave = np.isfinite(values[i, j])
        dark = gave and values[i, j] < middle
        axis.text(j, i, f"{values[i, j]:.2f}" if gave else "failed", ha="center", va="center",
                  fontsize=9, color="white" if dark else "black")  # fmt: skip
    i, j = places[reference]
    axis.add_patch(_frame(j, i, ORANGE))
    axis.grid(False)
    axis.set_xticks(range(len(across)), across, **(SLANT if max(map(len, across)) > 7 else {}))
    axis.set_yticks(range(len(down)), down)
    axis.set(xlabel=keys[1], ylabel=keys[0])
    axis.set_title("framed: the reference", fontsize=8)
    figure.colorbar(image, label="test accuracy, last epoch (%)")
    return figure


def _frame(x, y, colour):
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, ec=colour, lw=2.5)


def dots(means, told, axes, reference):
    """A figure: a panel a key, its value against a setting's mean accuracy."""
    from dalif_jax.analysis.figures import BLUE, GREY, ORANGE, log_axis, panels

    figure, all_axes = panels(len(axes), width=3.4, height=3.0)
    drawn = reference == RECIPE
    for axis, (key, kind) in zip(all_axes, axes.items(), strict=True):
        named = kind == "named"
        values = dict.fromkeys(of[key] for of in told.values() if key in of)
        values = sorted(values, key=_order) if drawn else list(values)
        at = {value: place if named else float(value) for place, value in enumerate(values)}
        shown = {name: at[told[name][key]] for name in means if name != RECIPE}
        axis.plot(list(shown.values()), [means[name] for name in shown], ".", ms=7,
                  color=GREY if named else BLUE, alpha=0.7)  # fmt: skip
        if named and len(axes) > 1:
            over = [[means[name] for name, place in shown.items() if place == at[value]]
                    for value in values]  # fmt: skip
            axis.plot(range(len(values)), [np.mean(of) if of else np.nan for of in over], "D",
                      color=BLUE, mfc="none", mew=1.8, ms=8)  # fmt: skip
        if named:
            long = max(map(len, values)) * len(values) > 28
            axis.set_xticks(range(len(values)), values, **(SLANT if long else {}))
            axis.set_xlim(-0.5, len(values) - 0.5)
        elif kind == "log":
            log_axis(axis)
        else:
            axis.locator_params(axis="x", nbins=5)
        if reference in means and drawn:
            axis.axhline(means[reference], ls="--", color=ORANGE, lw=1.2, zorder=0)
        elif reference in means:
            axis.plot(shown[reference], means[reference], "o", mfc="none", color=ORANGE, ms=10)
        axis.set(xlabel=key, ylabel="test accuracy (%)")
    notes = ["dot: a setting, mean of its seeds"]
    if "named" in axes.values() and len(axes) > 1:
        notes.append("diamond: mean of the dots in its column")
    if reference in means:
        notes.append("dashed: the recipe" if drawn else "ringed: the reference")
    figure.suptitle(("; " if len(axes) > 1 else "\n").join(notes), fontsize=8)
    return figure


def _order(text):
    """Numbers by size, before other words."""
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)

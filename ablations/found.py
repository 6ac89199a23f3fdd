"""What an ablation of docs/ablations found, as lines of its page, and its picture.

The beginning of a file's name says which ablation it is of.
"""

from statistics import fmean

from ablations import decays, fig1a, fig2, fig3, key, ranking, search
from ablations.ranking import rank
from ablations.runs import counted
from ablations.tables import (
    by_name,
    duration,
    ended,
    energies,
    keys_of,
    machine,
    names_of,
    percent,
    table,
    versions,
)
from dalif_jax.settings.keys import get_config as base_config

RANKED = ("ingredients", "timesteps")  # series of settings against their first


def found_by(name, series):
    """What an ablation found, Markdown lines: verdicts, and what they were measured with."""
    runs = series["runs"]
    by = names_of(runs)
    of = [run["epochs"] for run in ended(runs)]
    least, most = min(of), max(of)
    epochs = f"{least} to {most}" if least < most else f"{most}"
    seeds = len({run["seed"] for run in runs})
    lines = [
        f"{counted(len(runs), 'run')} of {epochs} epochs, {counted(seeds, 'seed')}, "
        f"{versions(series)}, {machine(series, runs)} ([{name}.json]({name}.json)).",
        "",
    ]
    if name.startswith("fig1a"):
        values = fig1a.grid(runs)
        high = fig1a.test(values[2:])
        lines += [f"* {line}" for line in fig1a.lines(fig1a.test(values))]
        lines.append(
            f"* alpha {' and '.join(map(str, fig1a.ALPHAS[2:]))} alone, best cell minus worst: "
            f"{100 * high['gap']:.2f} points"
        )
    elif name.startswith("fig2"):
        steps = sorted({run["timesteps"] for run in runs})
        arms = [arm for arm in fig2.ARMS if any(n.endswith(f"-{arm}") for n in by)]
        lines += table(
            ("T", "difference", "mean", "verdict"),
            [
                (r["timesteps"], f"{r['arm']} against {r['against']}", fig2.words(r), r["verdict"])
                for r in fig2.compare(runs, arms, steps)
            ],
        )
    elif name.startswith("fig3"):
        lines += [f"* {line}" for line in fig3.lines(fig3.claims(runs, start_of(runs[0])))]
    elif name.startswith(RANKED):
        lines += ranked(runs, rank(runs, by[0]))
    elif name.startswith("decays"):
        for t, norm, rows in decays.families(runs):
            lines += [f"T = {t}, membranes {'normed' if norm else 'as they are'}:", ""]
            lines += [*ranked(runs, rows), ""]
        lines.pop()
    elif name.startswith("search"):
        lines += search.page(runs)
    else:
        lines += [f"* {key.line(row)}" for row in key.compare(runs, by)]
    return lines


def ranked(runs, rows):
    """The table of a series, Markdown lines; `rows` are of `rank`."""
    by, cells = by_name(runs), []
    for row in rows:
        if not row.values:
            cells.append((row.name, "", "", row.said(""), "", ""))
            continue
        of, found = by[row.name], row.difference
        cells.append((
            row.name, percent(row.values), found.text() if found else "",
            row.said("what is compared with"), duration(fmean(r["seconds"] for r in of)),
            energies(of),
        ))  # fmt: skip
    return table(
        ("setting", "test, mean (range), %", "difference", "verdict, corrected (Holm)", "time",
         "uJ: paper / exact"), cells,
    )  # fmt: skip


def draw(name, series, path):
    """The picture of an ablation, as its program drew it."""
    runs = series["runs"]
    by = names_of(runs)
    if name.startswith("fig1a"):
        fig1a.draw(fig1a.grid(runs), path)
    elif name.startswith("fig2"):
        arms = [arm for arm in fig2.ARMS if any(n.endswith(f"-{arm}") for n in by)]
        fig2.draw(runs, path, arms, sorted({run["timesteps"] for run in runs}))
    elif name.startswith("fig3"):
        fig3.draw(runs, start_of(runs[0]), path)
    elif name.startswith(RANKED):
        ranking.draw(rank(runs, by[0]), path)
    elif name.startswith("decays"):
        decays.draw(runs, path)
    elif name.startswith("search"):
        search.draw(runs, path)
    else:
        key.draw(runs, key.compare(runs, by), by, path)


def start_of(run):
    """{decay: value} before a run was trained."""
    init = keys_of(run).get("decay_init", base_config().decay_init)
    return fig3.start(run["decay_function"], init)

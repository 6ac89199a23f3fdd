"""The part of docs/systems.md on what each piece and system gives under one recipe.

Takes docs/hosts/*.json (results.json of `ablations.systems`, a file a host), and of
docs/systems/systems.json which systems are stand-ins; ablations/system_table.py writes the page.
"""

import functools
import json
import shlex
from pathlib import Path
from statistics import fmean

from ablations import docstrings
from ablations.ranking import compared, rank, verdict
from ablations.statistics import LEVEL, differences
from ablations.systems import BASELINE, TABLES, kind_of, settings
from ablations.tables import (
    by_name,
    duration,
    ended,
    energies,
    firing_rate,
    machine,
    names_of,
    percent,
    table,
    versions,
)

DOCS = Path(__file__).resolve().parent.parent / "docs"
FOLDER = DOCS / "hosts"
FIGURE = FOLDER / "accuracy_energy.png"

HEAD = """
## Under one recipe

A host is a network, data and a schedule. On it `lif`, a plain leaky neuron with a batch norm, the
rectangle and the cross-entropy, is the baseline. `neuron-plif`, `norm-tdbn` and the like change one
piece of it and nothing else; a name without such a beginning is the whole system with its paper's
surrogate, threshold and learning rate; a stand-in has a formula of ours. Differences are of the
last epoch's test accuracy, paired by seed, with Student's 95 % interval; p is of their t-test,
corrected by Holm for all settings of the host, and below {level} it is a verdict. These are small
networks on small data for few epochs, which favour what learns fast: the systems above had more,
and all of them learned. A difference here is one of this scale, and of one learning rate: places
change where each has the
[best of nine trials](ablations/README.md#systems-at-their-best-of-nine).
On real recordings, `nmnist`, the four that lead over the other hosts stand above `lif` again;
three seeds of 100 test recordings resolve nothing, and the other settings have not run there.
On CIFAR-10 at T = 2, `cifar10_quick`, those that ran stand above it too, by a seed each, which is
no verdict.

![accuracy against energy]({figure})
"""

OWN = f"""### A paper's own constants, or the host's

The system less its piece alone, points, paired by seed, with Student's 95 % interval; verdicts are
below p = {LEVEL} after Holm's correction for all systems of the host.
"""


def load():
    """{host: its series}."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def with_most(all_series):
    """The hosts that most settings ran on: places among a few are not places among all."""
    count = {name: len(names_of(series["runs"])) for name, series in all_series.items()}
    most = max(count.values())
    return {name: series for name, series in all_series.items() if 2 * count[name] > most}


@functools.cache
def stand_ins():
    """Names of settings with a formula of ours in the place of one that is not public."""
    systems = json.loads((DOCS / "systems" / "systems.json").read_text())
    whole = {row["system"] for row in systems if "stand-in" in row["certainty"]}
    return whole | {
        f"{kind}-{name}" for kind in TABLES for name in docstrings.names(kind)
        if docstrings.of(kind, name).certainty == "stand-in"
    }  # fmt: skip


def marked(name, text):
    """What a setting is called in a page or picture, `text`, with the word where it is one."""
    return text + (" (stand-in)" if name in stand_ins() else "")


def titled(name):
    return marked(name, f"`{name}`")


def part(series):
    """Names of the settings of a series, where it is of a few: one that came later than a series of
    all is no reason to name all others."""
    names = names_of(series["runs"])
    return names if 2 * len(names) <= len(settings()) else []


def command(series):
    """What trains the series of a host."""
    first, *others = [run["command"] for run in series["runs"]]
    keys = settings().get(series["runs"][0]["name"], {})
    # What few settings or one seed have in common is theirs, and no key of the series.
    theirs = {f"--config.{key}={value}" for key, value in keys.items()}
    own = [
        word for word in first
        if word.startswith("--config.") and all(word in other for other in others)
        and word not in theirs and not word.startswith("--config.seed=")
    ]  # fmt: skip
    seeds = len({run["seed"] for run in series["runs"]})
    names = part(series)
    only = ["--systems", ",".join(names)] if names else []
    words = ["python -m ablations.systems --config", first[2], "--workdir runs/systems --seeds"]
    return " ".join([*words, str(seeds), *only, *map(shlex.quote, own)])


def host(name, series):
    """The section of one host, Markdown lines."""
    by, rows = by_name(series["runs"]), rank(series["runs"], BASELINE)
    one = by[BASELINE][0]
    ended = [run for runs in by.values() for run in runs]
    took, timed = sum(run["seconds"] for run in ended), measured(ended)
    failed = sum(bool(row.failed) for row in rows)
    of = f" of {len(few)} of the {len(settings())} settings" if (few := part(series)) else ""
    others = any(under(run) != timed for run in ended)
    said = " Milliseconds and peaks are of one machine; * marks those of other commits."
    lines = [
        f"### {name}", "",
        f"`{command(series)}`: {len(series['runs'])} runs{of}, {one['model']} on {one['dataset']}, "
        f"T = {one['timesteps']}, {one['epochs']} epochs, {one['examples']:,} test examples "
        f"(one is {100 / one['examples']:.2g} %), "
        f"{machine(series, ended)}, {versions(series)}, {duration(took)} of runs in sum"
        + (f"; {failed} settings with runs that failed." if failed else ".")
        + (said if others else ""), "",
    ]  # fmt: skip
    lines += table(
        ("setting", "seeds", "test, mean (range), %", "less `lif`, points", "p, corrected",
         "verdict", "firing rate", "uJ: paper / exact", "ms a step", "peak MB", "parameters"),
        [columns(row, by.get(row.name, []), timed) for row in rows],
    )  # fmt: skip
    return [*lines, ""]


def under(run):
    """What a run's time and memory depend on beside its setting."""
    return run.get("machine"), run.get("commit")


def measured(runs):
    """Under what most of the runs were; their times compare."""
    every = [under(run) for run in runs]
    return max(every, key=every.count)


def columns(row, runs, timed):
    """A setting's row of a host's table; its time and memory of runs under `timed`, or, with a
    mark, of others on that machine."""
    if not runs:
        return (titled(row.name), 0, "", "", "", row.said(""), *[""] * 5)
    near = [run for run in runs if run.get("machine") == timed[0]]
    here = [run for run in near if under(run) == timed] or near
    mark = "*" if here and under(here[0]) != timed else ""
    peaks = [run["peak_mb"] for run in here if run["peak_mb"]]
    rate = fmean(map(firing_rate, runs))
    return (
        titled(row.name), len(runs), percent([run["accuracy"] for run in runs]),
        points(row.difference),
        "" if row.corrected is None else f"{row.corrected:.2g}", row.said("baseline"),
        f"{rate:.1%}", energies(runs), f"{step_ms(here):.0f}{mark}" if here else "",
        f"{fmean(peaks):.0f}{mark}" if peaks else "", f"{runs[0]['parameters']:,}",
    )  # fmt: skip


def points(found):
    """An Interval in a cell; "" of none."""
    if found is None or found.mean is None:
        return ""
    text = f"{100 * found.mean:+z.2f}"
    if found.low is not None:
        text += f" ({100 * found.low:+z.2f} to {100 * found.high:+z.2f})"
    return text


def step_ms(runs):
    return fmean(1e3 * run["batch_size"] / run["images_per_second"] for run in runs)


def across(all_series):
    """Every setting's difference and rank on each host, by mean rank."""
    places = {}
    for name, series in all_series.items():
        rows = [row for row in rank(series["runs"], BASELINE) if row.values]
        for place, row in enumerate(rows, 1):
            gain = row.difference.mean if row.difference else 0.0
            places.setdefault(row.name, {})[name] = (place, gain)
    whole = {name: on for name, on in places.items() if len(on) == len(all_series)}
    order = sorted(whole, key=lambda name: (fmean(p for p, _ in whole[name].values()), name))

    def cell(on):
        return f"{on[0]} ({100 * on[1]:+z.2f})" if on[1] is not None else f"{on[0]}"

    rows = []
    for name in order:
        ranks = [place for place, _ in whole[name].values()]
        mean = f"{fmean(ranks):.1f} ({min(ranks)} to {max(ranks)})"
        rows.append((titled(name), mean, *(cell(whole[name][host]) for host in all_series)))
    return table(("setting", "rank, mean (range)", *all_series), rows)


def contradictions(all_series):
    """What does worse than the plain neuron that it is published to improve on, a sentence each."""
    lines, whole = [], {piece: name for name, piece in with_pieces()}
    for name, series in all_series.items():
        by = by_name(series["runs"])
        rows = {row.name: row for row in rank(series["runs"], BASELINE)}
        for row in rows.values():
            if row.verdict != "lower" or kind_of(row.name) == "baseline":
                continue
            one, found = by[row.name][0], row.difference
            said = (
                f"* {titled(row.name)} on {name} ({one['model']}, T = {one['timesteps']}, "
                f"{one['epochs']} epochs, {found.seeds} seeds): {found.text()}"
            )
            rate, plain = (fmean(map(firing_rate, by[n])) for n in (row.name, BASELINE))
            if rate < plain / 2:  # what hardly fires hardly learns
                said += f"; neurons fire at {rate:.1%}, those of `{BASELINE}` at {plain:.1%}"
            other = rows.get(whole.get(row.name))
            if other and other.values:
                said += (
                    f"; with its paper's constants, {titled(other.name)}, "
                    f"{other.difference.text()}, {other.verdict}"
                )
            lines.append(f"{said}.")
    return lines


def own_constants(all_series):
    """Each system less its piece alone under the host's constants, rows of a table.

    A system of several pieces is compared with the one that has its name: its neuron, norm, loss or
    attention.
    """
    rows, every = {}, settings()
    for place, series in enumerate(all_series.values()):
        runs = ended(series["runs"])
        of = {name: differences(runs, name, piece) for name, piece in with_pieces()}
        found = compared({name: values for name, values in of.items() if values})
        for name, (difference, _, corrected) in found.items():
            cells = rows.setdefault(name, [""] * len(all_series))
            cells[place] = f"{points(difference)}: {verdict(difference, corrected)}"
    lines = []
    for name, piece in with_pieces():
        other = [f"{k}={v}" for k, v in every[name].items() if every[piece].get(k) != v]
        if name in rows and other:
            lines.append((titled(name), titled(piece), ", ".join(other), *rows[name]))
    return lines


def with_pieces():
    """(system, the setting that is its piece alone) of those that have one."""
    for name in settings():
        for kind in ("neuron", "norm", "loss", "attention"):
            if kind_of(name) == "system" and name in TABLES[kind]:
                yield name, f"{kind}-{name}"
                break


def page():
    """Markdown lines; none where nothing was run."""
    all_series = load()
    if not all_series:
        return []
    lines = [HEAD.format(level=LEVEL, figure=FIGURE.relative_to(DOCS))]
    most = with_most(all_series)
    if len(most) > 1:
        lines += ["### Over the hosts", "", "Place among the settings, and points above `lif`.", ""]
        lines += [*across(most), ""]
    found = contradictions(all_series)
    lines += ["### Lower than `lif`", ""]
    if found:
        lines += [
            "Resolved after correction, at this scale. Where a paper has its piece above a plain "
            "neuron, this host contradicts it; where the same piece keeps up with its paper's own "
            "constants, the host's threshold or surrogate is what does not suit it.", "",
            *found, "",
        ]  # fmt: skip
    else:
        lines += ["Nothing, resolved after correction.", ""]
    if rows := own_constants(most):
        lines += [OWN, *table(("system", "less", "what else it changes", *most), rows), ""]
    for name, series in all_series.items():
        lines += host(name, series)
    return lines

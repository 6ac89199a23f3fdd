"""RESULTS.md, from the committed JSON of every series: what was run, and what it gave.

    python -m ablations.results

Takes docs/runs/*.json, docs/ablations/*.json and docs/hosts/*.json (results.json of a series, see
runs.py) and docs/published.json (the paper's figures), writes RESULTS.md, docs/runs/curves.png, the
pictures beside the JSON, and the figures in README, recipes and docs (figures.py).
"""

import json
import shlex
import statistics
from pathlib import Path

from ablations import host_figure, host_table, minutes
from ablations.figures import documents, is_plain, recipes
from ablations.found import draw
from ablations.runs import counted
from ablations.statistics import paired
from ablations.tables import (
    SAME,
    by_name,
    duration,
    ended,
    energies,
    firing_rate,
    machine,
    percent,
    table,
    versions,
)

DOCS = Path(__file__).resolve().parent.parent / "docs"
FOLDERS = ("runs", "ablations", "hosts")
# Series of recipes as they stand; the others vary them, mostly under shorter schedules.
RECIPES = ("fig3_", "runs/")


def load():
    """{"runs/x", "ablations/x" or "hosts/x": what the file holds}, sorted by name."""
    paths = sorted(path for folder in FOLDERS for path in DOCS.glob(f"{folder}/*.json"))
    return {f"{path.parent.name}/{path.stem}": json.loads(path.read_text()) for path in paths}


def mean(runs, get):
    return statistics.fmean(get(run) for run in runs)


def command(run):
    """The command that repeats a run."""
    return f"python {shlex.join(run['command'])} --workdir runs/x"


def group_row(label, series, runs):
    one = runs[0]
    return (
        label, one["timesteps"], one["epochs"], len(runs), percent([r["accuracy"] for r in runs]),
        percent([r["best"] for r in runs]), duration(mean(runs, lambda r: r["seconds"])),
        f"{mean(runs, lambda r: r['images_per_second']):,.0f}",
        energies(runs, 4), f"{mean(runs, firing_rate):.1%}", machine(series, runs),
        versions(series, runs),
    )  # fmt: skip


GROUP_HEAD = ("setting", "T", "epochs", "seeds", "last epoch, %", "best epoch, %", "time",
              "images/s", "energy, uJ: paper / exact", "firing rate", "machine",
              "measured with")  # fmt: skip


def is_recipe(name, runs):
    return any(part in name for part in RECIPES) and is_plain(runs[0])


def recipe_table(all_series):
    rows = []
    for name, series in all_series.items():
        for runs in by_name(series["runs"]).values():
            if is_recipe(name, runs):
                config = Path(runs[0]["command"][2]).stem
                rows.append(group_row(f"[{config}](docs/{name}.json)", series, runs))
    return table(GROUP_HEAD, rows)


def against_paper(all_series, published):
    """The paper's figures, each with what was run of it."""
    rows = []
    for row in published:
        keys = ("model", "dataset", "timesteps")
        ours = [
            {**run, "with": versions(series, [run])}
            for series in all_series.values()
            for run in ended(series["runs"])
            if all(run[key] == row[key] for key in keys)
            and SAME.get(run["neuron"], run["neuron"]) == row["neuron"]
        ]
        for epochs in sorted({run["epochs"] for run in ours}) or [None]:
            found = [run for run in ours if run["epochs"] == epochs]
            rows.append((
                f"`configs/{row['config']}.py`, {row['neuron']}", row["timesteps"],
                f"{row['percent']:.2f}", row["how"],
                f"{percent([r['accuracy'] for r in found])}, {epochs} epochs, {len(found)} seeds, "
                + " and ".join(sorted({r["with"] for r in found}))
                if found else "not run",
            ))  # fmt: skip
    return table(("recipe, neuron", "T", "published, %", "how it is known", "here, last epoch, %"),
                 rows)  # fmt: skip


def differences(all_series):
    """Paired differences of every series with arms, seed by seed."""
    rows = []
    for name, series in all_series.items():
        by = by_name(series["runs"])
        pairs = [(f"{t}-{arm}", f"{t}-{against}")
                 for t in sorted({key.split("-")[0] for key in by})
                 for arm, against in (("spatial", "baseline"), ("temporal", "baseline"),
                                      ("both", "baseline"), ("control", "baseline"),
                                      ("both", "control"))]  # fmt: skip
        first, *others = by
        pairs += [(other, first) for other in others if "=" in first]  # values of one key
        for one, other in pairs:
            if one in by and other in by:
                found = paired(series["runs"], one, other)
                rows.append((
                    f"[{by[one][0]['dataset']}](docs/{name}.json)", f"{one} against {other}",
                    by[one][0]["epochs"], found.seeds,
                    "" if found.mean is None else f"{100 * found.mean:+z.2f}",
                    "" if found.low is None
                    else f"{100 * found.low:+z.2f} to {100 * found.high:+z.2f}",
                    found.verdict, versions(series),
                ))  # fmt: skip
    return table(("set", "difference", "epochs", "seeds", "points", "95 % interval", "verdict",
                  "measured with"), rows)  # fmt: skip


def speed_record(all_series):
    """Time until a spiking ResNet-20 first had 90 and 93 % of CIFAR-10's test set, by setting.

    The mean over the seeds that reached it, beside how many of all did: one run is a lucky one or
    not, and a mean of those that got there alone says nothing of the others.
    """
    rows = []
    for series in all_series.values():
        of_kind = [r for r in ended(series["runs"])
                   if (r["model"], r["dataset"]) == ("resnet20", "cifar10")]  # fmt: skip
        for runs in by_name(of_kind).values():
            for goal in (0.90, 0.93):
                times = [reached(run, goal) for run in runs]
                there = [seconds for seconds in times if seconds is not None]
                if there:
                    spread = f" ({duration(min(there))} to {duration(max(there))})"
                    rows.append((
                        f"{goal:.0%}",
                        duration(statistics.fmean(there)) + (spread if len(there) > 1 else ""),
                        f"{len(there)} of {len(runs)}" + (ONE_SEED if len(runs) == 1 else ""),
                        runs[0]["timesteps"], machine(series, runs), versions(series, runs),
                        f"`{command(runs[times.index(min(there))])}`",
                    ))  # fmt: skip
    rows.sort(key=lambda row: row[0])
    if not rows:
        return ["Not measured yet: it takes a GPU, and no run of ResNet-20 on one is committed."]
    return table(("accuracy", "time", "seeds that reached it", "T", "machine", "measured with",
                  "command"), rows)  # fmt: skip


ONE_SEED = ", not enough seeds to rely on"


def reached(run, goal):
    """Seconds of training until the first evaluation at `goal`; None without such a one."""
    for (_, accuracy), seconds in zip(run["curve"], run.get("curve_seconds", []), strict=False):
        if accuracy is not None and accuracy >= goal and seconds is not None:
            return seconds
    return None


def every_run(name, series):
    """A file's runs that ended, a row each, folded away; settings with a command each."""
    total, runs = len(series["runs"]), ended(series["runs"])
    failed = f", {total - len(runs)} of them failed" if len(runs) < total else ""
    lines = [f"<details><summary>docs/{name}.json: {total} runs{failed}</summary>", ""]
    lines += table(
        ("setting", "seed", "commit", "last, %", "best, %", "time", "images/s", "uJ: paper / exact",
         "firing rate", "measured with"),
        [
            (r["name"], r["seed"], r["commit"], f"{100 * r['accuracy']:.2f}",
             f"{100 * r['best']:.2f}", duration(r["seconds"]), f"{r['images_per_second']:,.0f}",
             energies([r], 4),
             f"{firing_rate(r):.1%}", versions(series, [r]))
            for r in runs
        ],
    )  # fmt: skip
    commands = [command(of[0]) for of in by_name(runs).values()]
    return [*lines, "", "```sh", *commands, "```", "", "</details>", ""]


def of_hosts(every, hosts):
    """What docs/systems.md is made from, Markdown lines; none where nothing was run."""
    if not hosts:
        return []
    rows = []
    for name in hosts:
        runs = every[name]["runs"]
        settings, failed = {run["name"] for run in runs}, sum("failed" in run for run in runs)
        rows.append((f"[{Path(name).name}](docs/{name}.json)", len(settings), len(runs), failed))
    return [
        "## Every piece and system under one recipe", "",
        "Ranked in [docs/systems.md](docs/systems.md#under-one-recipe).", "",
        *table(("host", "settings", "runs", "of them failed"), rows), "",
        "![accuracy against energy](docs/hosts/accuracy_energy.png)", "",
    ]  # fmt: skip


def curves(all_series, path):
    """Test accuracy over epochs: a panel a recipe, mean and range over seeds.

    Of recipes that were evaluated three times or more: fewer points are no curve.
    """
    from dalif_jax.analysis.figures import BLUE, panels

    shown = {config: runs for config, (_, _, runs) in recipes(all_series).items()
             if len(runs[0]["curve"]) >= 3}  # fmt: skip
    figure, axes = panels(len(shown), width=4.0)
    for axis, (config, runs) in zip(axes, shown.items(), strict=True):
        epochs = [epoch for epoch, _ in runs[0]["curve"]]
        values = [[100 * accuracy for _, accuracy in run["curve"]] for run in runs]
        columns = list(zip(*values, strict=True))
        axis.plot(epochs, [statistics.fmean(c) for c in columns], color=BLUE, lw=1.3)
        axis.fill_between(epochs, list(map(min, columns)), list(map(max, columns)), color=BLUE,
                          alpha=0.2, lw=0)  # fmt: skip
        axis.set(title=f"{config}, {counted(len(runs), 'seed')}", xlabel="epoch",
                 ylabel="test accuracy (%)")  # fmt: skip
        axis.title.set_fontsize(10)
    figure.savefig(path)


def page(all_series, published):
    """RESULTS.md as text."""
    count = sum(len(series["runs"]) for series in all_series.values())
    every, hosts = all_series, [name for name in all_series if name.startswith("hosts/")]
    all_series = {name: series for name, series in every.items() if name not in hosts}
    pictures = [name for name in all_series if "fig3_" in name]
    lines = [
        "# Results", "",
        f"{count} runs, from the JSON of every series in `docs/`; written by "
        "`python -m ablations.results`. Accuracies are of the test set. The last epoch's are the "
        "results; the best epoch's, chosen on the test set, stand beside them because that is what "
        "papers print. In brackets: the range over seeds. Time is of one run with its compilation "
        "and evaluations, often beside another run on the same cores. Energy is of one example, by "
        "the paper's tools and exactly ([README](README.md)); firing rate is the mean over layers.",
        "", "## Recipes as they stand", "", *recipe_table(all_series), "",
        "![test accuracy over epochs](docs/runs/curves.png)", "",
        "CIFAR-10 on two cores, accuracy against minutes:", "",
        "![accuracy against minutes](docs/runs/minutes.png)", "",
        "## Against the paper", "",
        "The paper's figures are best epochs of 1000; its table cells are not in its text, so most "
        "are bounds. `not run` says exactly that: these recipes need a GPU, and "
        "`python -m ablations.recipe --config configs/NAME.py --workdir runs/NAME` adds a row.",
        "", *against_paper(all_series, published), "",
        "## What learned decays add", "",
        "Differences of last-epoch accuracy, seed by seed, with Student's 95 % interval, not "
        "corrected for their number. The paper's gains at its own scale are +0.76 (alpha learned), "
        "+0.37 (beta) and +1.28 points (both).", "",
        *differences(all_series), "",
        "[What the ablations found](docs/ablations/README.md), with their figures.", "",
        "## Decays by layer (Fig. 3)", "",
        *(line for name in pictures for line in (
            f"{Path(all_series[name]['runs'][0]['command'][2]).stem}, "
            f"{len(all_series[name]['runs'])} seeds:", "", f"![decays](docs/{name}.png)", "")),
        *of_hosts(every, hosts),
        "## Speed record", "", *speed_record(all_series), "",
        "## Every run", "",
        *(line for name, series in every.items() for line in every_run(name, series)),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def main():
    all_series = load()
    if hosts := host_table.load():
        host_figure.draw(hosts, host_table.FIGURE)
    published = json.loads((DOCS / "published.json").read_text())
    (DOCS.parent / "RESULTS.md").write_text(page(all_series, published))
    curves(all_series, DOCS / "runs" / "curves.png")
    minutes.draw(all_series, DOCS / "runs" / "minutes.png")
    for name, series in all_series.items():
        if name.startswith("ablations/"):
            draw(name.removeprefix("ablations/"), series, DOCS / f"{name}.png")
    pages = documents(all_series)
    for path, text in pages.items():
        path.write_text(text)
    print(f"wrote RESULTS.md and the figures of {len(pages)} files from {len(all_series)} series")


if __name__ == "__main__":
    main()

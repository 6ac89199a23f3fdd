"""The figures in prose, from the same JSON as RESULTS.md: one place for a number, pages repeat it.

Written by `python -m ablations.results`: README's table of what was measured, what a recipe's
docstring expects, what the ablations found (found.py), the table of cards. In Markdown the text
between `<!-- figures: NAME -->` and `<!-- end -->` is written, in a recipe's docstring what follows
"Expected:". tests/test_prose.py compares.
"""

import importlib
import json
import re
import textwrap
from pathlib import Path
from statistics import fmean

from scipy import stats

from ablations.found import found_by
from ablations.tables import SAME, duration, ended, machine, percent, table, versions
from dalif_jax.settings import config as configs

ROOT = Path(__file__).resolve().parent.parent
MARKED = re.compile(r"(<!-- figures: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def is_plain(run):
    """Whether a run is of a recipe as it stands, but for the seed and where data lay.

    A recipe that has another network by now is another one.
    """
    recipe = importlib.import_module(f"configs.{Path(run['command'][2]).stem}").get_config()
    if any(key in run and run[key] != recipe[key] for key in ("model", "dataset")):
        return False
    for word in run["command"][3:]:
        name, _, value = word.removeprefix("--config.").partition("=")
        if name == "neuron":
            if SAME.get(value, value) != "dalif":
                return False
        elif name not in ("seed", "data_dir", "cache_dir"):
            return False
    return True


def recipes(all_series):
    """{config: (name of the series, the series, its runs)}; of several the one in docs/runs."""
    found = {}
    for name in sorted(all_series, key=lambda name: name.startswith("runs/")):
        runs = [run for run in ended(all_series[name]["runs"]) if is_plain(run)]
        for config in dict.fromkeys(Path(run["command"][2]).stem for run in runs):
            of = [run for run in runs if Path(run["command"][2]).stem == config]
            found[config] = (name, all_series[name], of)
    return dict(sorted(found.items()))


def own(config, runs):
    """(result, seed, words) of a recipe's command as it stands, or with another seed.

    The run or the card of the recipe's own seed, or the first run, and the key that repeats it.
    """
    seed = importlib.import_module(f"configs.{config}").get_config().seed
    for run in runs:
        if run["seed"] == seed:
            return shares(run), seed, ""
    for folder in sorted((ROOT / "cards").glob("*/config.json")):
        settings = json.loads(folder.read_text())
        if folder.parent.name == config and settings["seed"] == seed:
            report = json.loads((folder.parent / "eval.json").read_text())
            return shares(report), seed, ""
    return shares(runs[0]), runs[0]["seed"], f" with `--config.seed={runs[0]['seed']}`"


def shares(result):
    """{split: accuracy} of a run's record or an eval.json, mirrored views' as if of a split."""
    rest = {
        split: row["accuracy"] if isinstance(row, dict) else row
        for split, row in result["other_splits"].items()
    }
    views = {"mirrored_views": result["mirrored_views"]} if "mirrored_views" in result else {}
    return {"test": result["accuracy"], **views, **rest}


def spread(runs):
    """{split: mean and range as percent}; of one seed what a test set of that size can tell."""
    found = {
        split: f"{percent([shares(run)[split] for run in runs])} %" for split in shares(runs[0])
    }
    if len(runs) == 1:
        examples = runs[0]["examples"]
        right = round(runs[0]["accuracy"] * examples)
        sure = stats.binomtest(right, examples).proportion_ci(method="wilson")
        found["test"] += (
            f" of {examples:,} (Wilson's 95 % interval {100 * sure.low:.1f} to "
            f"{100 * sure.high:.1f})"
        )
    return found


def measured(all_series):
    """README's table: what each recipe's command gives, and the same over seeds."""
    rows = []
    for config, (name, series, runs) in recipes(all_series).items():
        given, _, words = own(config, runs)
        # Where the data lies may have been an environment variable; the digits lie nowhere.
        data = "" if runs[0].get("dataset", "digits").startswith("digits") else DATA_DIR
        first = "; ".join(f"{SPLITS.get(s, s)} {100 * v:.2f} %" for s, v in given.items())
        over = "; ".join(f"{SPLITS.get(s, s)} {text}" for s, text in spread(runs).items())
        rows.append((
            f"`configs/{config}.py{data}`", f"{first}{words}", f"[{len(runs)}](docs/{name}.json)",
            over, duration(fmean(run["seconds"] for run in runs)),
            versions(series, runs),
        ))  # fmt: skip
    head = ("run", "its command gives, last epoch", "seeds", "mean (range) over them", "time",
            "measured with")  # fmt: skip
    return table(head, rows)


DATA_DIR = " --config.data_dir=..."
SPLITS = {
    "test": "test", "unseen_writers": "unseen writers",
    "mirrored_views": "test by the mean of mirrored views",
}  # fmt: skip


def expected(config, all_series):
    """The sentence of a recipe's docstring; None where no run of it is committed."""
    if config not in recipes(all_series):
        return None
    _, series, runs = recipes(all_series)[config]
    given, seed, _ = own(config, runs)
    over = ", ".join(f"{SPLITS.get(s, s)} {text}" for s, text in spread(runs).items())
    count = f"{len(runs)} seeds" if len(runs) > 1 else "one seed"
    one = " and ".join(f"{100 * value:.2f} %" for value in given.values())
    took = duration(fmean(run["seconds"] for run in runs))
    return (
        f"Expected: {over}, {count}; with seed {seed} {one}. Last epoch, {took} a run, "
        f"{machine(series, runs)}, {versions(series, runs)}."
    )


def docstring(text, config, all_series):
    """A recipe's file with its "Expected:" as measured."""
    sentence = expected(config, all_series)
    if sentence is None:
        return text
    head, body, tail = text.split('"""', 2)
    *paragraphs, last = body.rstrip().split("\n\n")
    before = " ".join(last.split("Expected:")[0].split())
    last = textwrap.fill(f"{before} {sentence}", 100, break_on_hyphens=False)
    return f'{head}"""' + "\n\n".join([*paragraphs, last]) + f'\n"""{tail}'


def cards():
    """The table of cards: what each measured, and how it differs from the recipe of its name."""
    rows = []
    for path in sorted((ROOT / "cards").glob("*/eval.json")):
        folder, report = path.parent, json.loads(path.read_text())
        settings = json.loads((folder / "config.json").read_text())
        recipe = configs.to_json(importlib.import_module(f"configs.{folder.name}").get_config())
        other = [
            f"`{name}={settings[name]}`"
            for name in recipe
            if name in settings and settings[name] != recipe[name]
            and name not in ("data_dir", "cache_dir")
        ]  # fmt: skip
        size = sum(f.stat().st_size for f in folder.iterdir()) / 1e6
        rows.append((
            f"[{folder.name}]({folder.name}/README.md)",
            f"`{report['model']}`, {report['parameters']:,} parameters, T = {report['timesteps']}",
            report["dataset"], f"{100 * report['accuracy']:.2f} % of {report['examples']:,}",
            ", ".join(other) or "nothing", f"{size:.1f} MB",
        ))  # fmt: skip
    head = ("card", "network", "set", "test accuracy", "other than its recipe", "size")
    return table(head, rows)


def documents(all_series):
    """{path: text} of every page with figures, as it is to be."""
    blocks = {"measured": lambda: measured(all_series), "cards": cards}
    for name, series in all_series.items():
        if name.startswith("ablations/"):
            short = name.removeprefix("ablations/")
            blocks[short] = lambda short=short, series=series: found_by(short, series)
    found = {}
    for path in [ROOT / "README.md", ROOT / "cards" / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text()
        write = lambda m: m[1] + "\n" + "\n".join(blocks[m[2]]()) + "\n\n" + m[3]  # noqa: E731
        if MARKED.search(text):
            found[path] = MARKED.sub(write, text)
    for path in sorted((ROOT / "configs").glob("*.py")):
        if path.stem in recipes(all_series):
            found[path] = docstring(path.read_text(), path.stem, all_series)
    return found

"""docs/methods/: a page for every neuron, norm, loss, surrogate, attention and network.

    python -m ablations.method_pages

What a method is, how certain it is and where it differs is read from its docstring
(`ablations/docstrings.py`), its options from its fields; figures are of docs/published.json,
docs/systems/ and docs/hosts/. Nothing on the pages stands anywhere else.
"""

import functools
import json
import re
from pathlib import Path
from typing import NamedTuple

from flax.traverse_util import flatten_dict, unflatten_dict

from ablations import docstrings as facts
from ablations import host_table, network_table, system_table
from ablations.systems import NARROW, PLAIN, WHOLE
from ablations.tables import by_name, energy, percent, table
from configs.digits import get_config as digits
from configs.systems import SYSTEMS, told
from dalif_jax import attention, losses, networks, neurons, norms

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
FOLDER = DOCS / "methods"
COUNTS = FOLDER / "parameters.json"  # of every network, in its recipe
KEYS = {
    "neuron": "neuron", "norm": "norm", "loss": "loss", "surrogate": "surrogate",
    "attention": "attention", "network": "model",
}  # fmt: skip
TITLES = {
    "neuron": "Neurons", "norm": "Norms", "loss": "Losses", "surrogate": "Surrogates",
    "attention": "Attention", "network": "Networks",
}  # fmt: skip
OWN = {
    "neuron": neurons.own_options, "norm": norms.own_options, "loss": losses.own_options,
    "attention": attention.own_options, "network": networks.own_options,
}  # fmt: skip
# Files of configs/ that are no recipe of a network alone.
SHARED = ("base", "systems", "event_systems")
FEW = 12  # rows of published figures; of more, their number is told
# What a method needs beside its own key to be trained on the digits.
NEEDS = {
    **NARROW,
    "loss-ltmd": flatten_dict(
        {key: SYSTEMS["ltmd"][key] for key in ("neuron", "model_options")}, sep="."
    ),
    "neuron-diet": {"norm": "none"},
}
HEAD = """# Methods

A page for each: its equations, how certain they are, where it differs from its paper and from the
authors' code, its options, figures published and measured. Whole systems, several of these
together, are in [systems.md](../systems.md). Written by `python -m ablations.method_pages`.
"""


def every():
    """[(kind, name, what is told of it)] of all rows of all tables that are a method."""
    return [(kind, name, facts.of(kind, name)) for kind in KEYS for name in facts.names(kind)]


def path(kind, name):
    return FOLDER / f"{kind}-{name}.md"


@functools.cache
def recipes():
    """{model: the recipes of configs/ that train it}, shortest path first."""
    found = {}
    files = sorted((ROOT / "configs").rglob("*.py"), key=lambda p: (len(p.parts), str(p)))
    for file in files:
        recipe = str(file.relative_to(ROOT / "configs").with_suffix(""))
        if recipe in SHARED or not re.search(r"\bget_config\b", file.read_text()):
            continue
        found.setdefault(network_table.recipe_of(recipe).model, []).append(recipe)
    return found


def command(kind, name):
    """(words of its command, its config): the network's recipe, or the digits with the piece."""
    words, settings = ["python train.py --config"], digits()
    if kind == "network":
        recipe = recipes()[name][0] if name in recipes() else None
        if recipe:
            return f"{words[0]} configs/{recipe}.py --workdir runs/{name}", network_table.recipe_of(
                recipe
            )
    keys = {KEYS[kind]: name} | NEEDS.get(f"{kind}-{name}", {})
    words.append("configs/digits.py --workdir runs/" + name)
    words += [f"--config.{k}={v}" for k, v in keys.items()]
    return " ".join(words), told(settings, unflatten_dict(keys, sep="."))


@functools.cache
def published():
    """[(title, row, its recipe's config)] of all published figures."""
    rows = [
        (row["title"], figure) for row in system_table.rows() + network_table.rows()
        for figure in row["published"] if figure["percent"]
    ]  # fmt: skip
    ours = json.loads((DOCS / "published.json").read_text())
    rows += [("DA-LIF", row) for row in ours if row["neuron"] == "dalif"]
    return [(title, row, network_table.recipe_of(row["config"])) for title, row in rows]


def published_with(kind, name):
    """Markdown lines: what was published of recipes with it."""
    rows = [
        (title, row, settings) for title, row, settings in published()
        if settings[KEYS[kind]] == name
    ]  # fmt: skip
    if not rows:
        return ["None that this repository has a recipe of."]
    if len(rows) > FEW:
        return [
            f"{len(rows)} rows of [systems.md](../systems.md) and [RESULTS.md](../../RESULTS.md)."
        ]
    return table(
        ("system", "data, network, T", "published, %", "here", "recipe"),
        [
            (
                title, f"{row['dataset']}, {settings.model}, {row['timesteps']}",
                f"{row['percent']:.2f}", "not run",
                f"[{row['config']}](../../configs/{row['config']}.py)",
            )
            for title, row, settings in rows
        ],
    )  # fmt: skip


class Committed(NamedTuple):
    """Runs in docs/: of hosts {host: {setting: runs}}, systems, events, recipes {name: runs}."""

    hosts: dict
    systems: dict
    events: dict
    recipes: dict


@functools.cache
def committed():
    """The Committed runs, read once for all pages."""
    files = sorted((DOCS / "runs").glob("*.json"))
    return Committed(
        {host: by_name(series["runs"]) for host, series in host_table.load().items()},
        system_table.measured()[0],
        network_table.measured()[0],
        {file.stem: json.loads(file.read_text())["runs"] for file in files},
    )


def measured(kind, name):
    """Markdown lines: what committed runs with it gave, each on its scale."""
    rows = []
    setting = host_table.BASELINE if PLAIN.get(kind) == name else f"{kind}-{name}"
    for host, by in committed().hosts.items():
        if setting in by:
            rows.append((f"`{setting}` on [{host}](../systems.md)", by[setting]))
    for where, by in {"the digits": committed().systems, **committed().hosts}.items():
        for system, keys in WHOLE.items():
            piece = keys.get(KEYS[kind], "dalif" if kind == "neuron" else None)
            if system in by and piece == name:
                rows.append((f"system `{system}` on [{where}](../systems.md)", by[system]))
    for run in committed().events.values():
        if kind == "network" and run["model"] == name:
            rows.append((f"`event_systems.py:{run['name']}`, [events](../systems.md)", [run]))
    if kind in ("network", "neuron"):
        for recipe, runs in committed().recipes.items():
            if runs[0][KEYS[kind]] == name:
                rows.append((f"`configs/{recipe}.py`, [runs](../../RESULTS.md)", runs))
    if not rows:
        return ["Not run."]
    return table(
        ("what", "T", "epochs", "seeds", "test, mean (range), %", "energy, exact, uJ"),
        [
            (
                what, runs[0]["timesteps"], runs[0]["epochs"], len(runs),
                percent([run["accuracy"] for run in runs]),
                energy(runs),
            )
            for what, runs in rows
        ],
    )  # fmt: skip


def parameters(kind, name):
    """What it adds to a network, in words."""
    if kind == "network":
        count, recipe = json.loads(COUNTS.read_text())[name]
        return f"{count:,} in `{recipe}`"
    if kind == "neuron":
        numbers = neurons.NEURONS[name].numbers(neurons.options(name))
        if not numbers:
            return "none"
        each = {key: " and ".join(("layer", *n.per)) for key, n in numbers.items()}
        return ", ".join(f"`{key}`, one a {per}" for key, per in each.items())
    if kind == "norm":
        return "none" if name == "none" else "scale and bias a channel, with running mean, variance"
    return "of its own, see the equations" if kind == "attention" else "none"


def options_table(kind, name):
    own = OWN[kind](name) if kind in OWN else {}
    if not own:
        return []
    meaning = facts.meanings(kind, name)
    group = {"network": "model_options"}.get(kind, f"{kind}_options")
    rows = [(f"`{key}`", f"`{value!r}`", meaning.get(key, "")) for key, value in own.items()]
    return [
        "## Options", "",
        f"Keys of the config of that name where there is one, else `{group}.<name>`.", "",
        *table(("option", "default", "what it is"), rows), "",
    ]  # fmt: skip


def page(kind, name, about):
    """The page of a method, Markdown."""
    words, _ = command(kind, name)
    system = [
        s for s in SYSTEMS
        if SYSTEMS[s].get(KEYS[kind]) == name and not (kind == "neuron" and name == "lif")
    ]  # fmt: skip
    lines = [
        f"# {name}", "", f"`{KEYS[kind]}={name}`, {kind_words(kind)}. {about.lead}", "",
        *([about.text, ""] if about.text else []), *table(
            ("", ""),
            [
                ("certainty", f"**{about.certainty}**: {facts.LEVELS[about.certainty]}. "
                 f"{about.rests_on}"),
                *([("paper", f"<{about.paper}>")] if about.paper else []),
                ("code here", f"[{about.file}](../../dalif_jax/{about.file})"),
                ("parameters", parameters(kind, name)),
                *([("system", ", ".join(f"`configs/systems.py:{s}`" for s in system))]
                  if system else []),
            ],
        ), "",
        "## Differences", "",
        *(about.differences or ["None known."]), "",
        *options_table(kind, name),
        "## Published", "", *published_with(kind, name), "",
        "## Measured here", "", *measured(kind, name), "",
        "## Train it", "", "```sh", words, "```", "",
    ]  # fmt: skip
    return "\n".join(lines)


def kind_words(kind):
    return {"attention": "an attention module", "network": "a network"}.get(kind, f"a {kind}")


def index():
    lines = [HEAD]
    for kind in KEYS:
        lines += [f"## {TITLES[kind]}", ""]
        rows = [
            (f"[`{name}`]({path(kind, name).name})", about.lead, about.certainty)
            for k, name, about in every() if k == kind
        ]  # fmt: skip
        lines += [*table(("name", "what it is", "certainty"), rows), ""]
    return "\n".join(lines)


def pages():
    """{path: text} of the folder."""
    texts = {path(kind, name): page(kind, name, about) for kind, name, about in every()}
    return texts | {FOLDER / "README.md": index()}


def counts():
    """{network: (parameters, its recipe)}."""
    out = {}
    for name in facts.names("network"):
        _, settings = command("network", name)
        recipe = recipes()[name][0] if name in recipes() else "digits"
        out[name] = (system_table.parameters(settings), recipe)
    return out


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    COUNTS.write_text(json.dumps(counts(), indent=1) + "\n")
    for file in FOLDER.glob("*.md"):
        file.unlink()
    texts = pages()
    for file, text in texts.items():
        file.write_text(text)
    print(f"wrote {len(texts)} pages into docs/methods")

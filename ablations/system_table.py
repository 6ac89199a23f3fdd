"""docs/systems.md: every compared system, how certain it is, what it has here and what it gave.

    python -m ablations.system_table

Takes docs/systems/systems.json (systems, sources, published figures), docs/systems/digits.json
(results.json of `ablations.systems`), what host_table.py and network_table.py take, and the recipes
of configs/table1, table2 and authors, whose parameters it counts and writes into
docs/systems/parameters.json.
"""

import json
from pathlib import Path
from statistics import fmean

from ablations import host_table, network_table
from ablations.tables import by_name, energy, firing_rate, table
from configs.systems import SYSTEMS
from configs.systems import get_config as recipe_of
from dalif_jax import neurons
from dalif_jax.analysis import summary
from dalif_jax.settings import config

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
DATA = {
    "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet",
    "cifar10dvs": "CIFAR10-DVS", "dvsgesture": "DVS128 Gesture",
}  # fmt: skip
PARAMETERS = DOCS / "systems" / "parameters.json"

HEAD = """# The compared systems

Every system that the paper compares with, and its kin, as pieces that go together with any network
here: `python train.py --config configs/systems.py:NAME --workdir runs/NAME` trains one on the
digits, `configs/table1/` and `configs/table2/` have the rows of Tables I and II. This page is
written by `python -m ablations.system_table`. A **stand-in** is a formula of ours in the place of
one that is not public: its figures say nothing of the published method.

## What is here

The parameters are those of a ResNet-19's neurons and membrane norms at T = 4, beside its 12.5
million weights.
"""

MEASURED = """
## Each as its paper has it

The digits of scikit-learn with `configs/digits.py`'s network and data, {epochs} epochs, T = 4, the
system's own neuron, norm, loss and surrogate (and for Diet-SNN its optimizer), last epoch, {seeds}
seeds: {command}. Small images and a small network: this shows that each learns, not which is
better.
"""

PUBLISHED = """
## Tables I and II

The papers' own figures, which this repository has not measured: they need a GPU. A row's recipe
names its sources; `:dalif` behind it puts DA-LIF into its network. Parameters are counted on the
recipe. Rows of `authors/` are not in the tables.
"""


def rows():
    return json.loads((DOCS / "systems" / "systems.json").read_text())


def measured():
    """{system: its runs} and the whole series."""
    series = json.loads((DOCS / "systems" / "digits.json").read_text())
    return by_name(series["runs"]), series


def named(row):
    return f"[{row['title']}]({row['link']})" if row["link"] else row["title"]


def pieces(name):
    """What a system changes, as keys of a config."""
    keys = {key: value for key, value in SYSTEMS[name].items() if not isinstance(value, dict)}
    kept = ("neuron", "norm", "loss", "surrogate", "membrane_bn")
    found = [
        f"[`{key}={keys[key]}`](methods/{key}-{keys[key]}.md)" if key != "membrane_bn"
        else f"`{key}={keys[key]}`"
        for key in kept if key in keys
    ]  # fmt: skip
    return ", ".join(found) or "the defaults, [`neuron=dalif`](methods/neuron-dalif.md)"


def streams(name):
    why = neurons.refusal(config.neuron_options(recipe_of(name)), "stream")
    return f"no: {why}" if why else "yes"


def nir(name):
    settings = recipe_of(name)
    options = config.neuron_options(settings)
    kind = neurons.of(options)
    if kind.decays is None and kind.lifs is None:
        return f"no: {neurons.refusal(options, 'nir')}"
    return "yes, folded first where a scale is negative" if settings.membrane_bn else "yes"


def own_parameters(name):
    """The numbers of a ResNet-19's neurons, and of their norms."""
    settings = recipe_of(name)
    settings.update({"model": "resnet19", "dataset": "cifar10", "timesteps": 4})
    plain = settings.copy_and_resolve_references()
    plain.update({"neuron": "lif", "membrane_bn": False, "per_channel": False})
    with plain.unlocked():
        plain.neuron_options = {}
    return parameters(settings) - parameters(plain)


def parameters(settings):
    """Of the network of a config."""
    return sum(row.parameters for row in summary.layers(*network_table.built(settings)))


def counts():
    """{system, or recipe and timesteps: parameters}."""
    own = {row["system"]: own_parameters(row["system"]) for row in rows()}
    return own | {key(p): published_parameters(p) for _, p in published()}


def published():
    """[(title, published figure)] of every system, the tables' first."""
    every = [(row["title"], p) for row in rows() + network_table.rows() for p in row["published"]]
    order = {"table1": 0, "table2": 1, "authors": 2}
    return sorted(every, key=lambda pair: order[pair[1]["config"].split("/")[0]])


def key(published):
    return f"{published['config']}, T = {published['timesteps']}"


def page():
    found, series = measured()
    one = next(iter(found.values()))
    count = json.loads(PARAMETERS.read_text())
    lines = [HEAD]
    lines += table(
        ("system", "name, pieces", "files", "source, certainty", "parameters", "streams", "NIR"),
        [
            (
                named(row), f"`{row['system']}`: {pieces(row['system'])}",
                ", ".join(f"[{file}](../dalif_jax/{file})" for file in row["files"]),
                row["certainty"], f"{count[row['system']]:,}", streams(row["system"]),
                nir(row["system"]),
            )
            for row in rows()
        ],
    )  # fmt: skip
    lines.append(
        MEASURED.format(
            epochs=one[0]["epochs"], seeds=len(one),
            command="`python -m ablations.systems --config configs/digits.py --workdir runs/systems"
            f" --systems {','.join(found)} --config.epochs={one[0]['epochs']}`",
        )
    )  # fmt: skip
    lines += table(
        ("system", "test, mean (range), %", "firing rate", "energy, exact, uJ", "s a run"),
        [measured_row(row, found[row["system"]]) for row in rows() if row["system"] in found],
    )
    lines += ["", f"{series['cpu']}, {series['cores']} cores, jax {series['jax']}."]
    reasons = [f"* {row['title']}: {row['reason']}" for row in rows() if row.get("reason")]
    lines += ["", *reasons] if reasons else []
    lines += host_table.page()
    lines += network_table.page()
    lines.append(PUBLISHED)
    lines += table(
        ("system", "data, network, T", "published, %", "parameters here", "recipe"),
        [
            (
                title, f"{DATA[p['dataset']]}, {p['network']}, {p['timesteps']}",
                f"{p['percent']:.2f}" if p["percent"] else "", f"{count[key(p)]:,}",
                f"[{p['config']}](../configs/{p['config']}.py)",
            )
            for title, p in published()
        ],
    )  # fmt: skip
    return "\n".join(lines) + "\n"


def measured_row(row, runs):
    values = [100 * run["accuracy"] for run in runs]
    rate = fmean(map(firing_rate, runs))
    return (
        host_table.marked(row["system"], row["title"]),
        f"{fmean(values):.2f} ({min(values):.2f} to {max(values):.2f})", f"{rate:.3f}",
        energy(runs),
        f"{fmean(run['seconds'] for run in runs):.0f}",
    )  # fmt: skip


def published_parameters(published):
    settings = network_table.recipe_of(published["config"])
    settings.timesteps = published["timesteps"]
    return parameters(settings)


if __name__ == "__main__":
    PARAMETERS.write_text(json.dumps(counts(), indent=1) + "\n")
    (DOCS / "systems.md").write_text(page())
    print("wrote docs/systems.md")

"""The part of docs/systems.md on networks and attention: what each is here and what it gave.

Takes docs/systems/networks.json (systems, sources, published figures) and docs/systems/events.json
(results.json of `ablations.event_systems`); ablations/system_table.py writes the page.
"""

import json
import runpy
from pathlib import Path
from statistics import fmean

from ablations.tables import energy, table
from dalif_jax import attention, neurons, training
from dalif_jax.analysis import summary
from dalif_jax.data import sets
from dalif_jax.settings import config

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "systems"

HEAD = """
## Networks and attention

A network is `--config.model`, attention `--config.attention`, which acts in any network: on the
currents before neurons, in MS-ResNet on the branch before the sum, in `vggsnn` with
`model_options.pool_attention` behind pools, in ResNets with `model_options.stage_attention` in
front of stages. Any neuron goes into any row's network by its name behind the recipe's:
`--config configs/table2/sew_gesture_7b.py:dalif` is DA-LIF in 7B-Net. Parameters are those of the
recipe, neurons' and attention's among them.
"""

MEASURED = """
## Networks under one recipe

The digits before a simulated event camera, T = 4, last epoch, one seed: {command}, with the epochs
of the row. `configs/event_systems.py` says what of a network was made smaller, or left out, for 16
pixels or for two cores. This shows that each learns from events, not which is better; a row without
figures has not been run.
"""


def rows():
    return json.loads((FOLDER / "networks.json").read_text())


def measured():
    """{name of configs/event_systems.py: its run}, and the series."""
    series = json.loads((FOLDER / "events.json").read_text())
    return {run["name"]: run for run in series["runs"]}, series


def recipe_of(path):
    return runpy.run_path(ROOT / "configs" / f"{path}.py")["get_config"]()


def built(settings):
    """(network, shape of what it takes) of a config."""
    spec = sets.spec(settings.dataset, settings.frame_size)
    return training.build_model(settings), (settings.timesteps, *spec.shape)


def streams(settings):
    """Whether a recipe's network answers timestep by timestep, or why not."""
    attend = attention.ATTENTION[settings.attention]
    why = getattr(attend, "refuses_stream", "")
    why = why or neurons.refusal(config.neuron_options(settings), "stream")
    return f"no: {why}" if why else "yes"


def nir(settings):
    """Whether it has a form in NIR, or why not."""
    options = config.neuron_options(settings)
    kinds = {row.kind for row in summary.layers(*built(settings))}
    if settings.attention != "none" or "CausalAttention" in kinds:
        return "no: attention"
    if "MaxPool" in kinds:
        return "no: max pooling"
    if neurons.of(options).decays is None and neurons.of(options).lifs is None:
        return f"no: {neurons.refusal(options, 'nir')}"
    return "yes"


def page():
    found, series = measured()
    lines = [HEAD]
    lines += table(
        ("system", "models", "files", "source, certainty", "streams", "NIR", "recipe"),
        [
            (
                f"[{row['title']}]({row['link']})",
                ", ".join(f"[`{name}`](methods/network-{name}.md)" for name in row["models"]),
                ", ".join(f"[{file}](../dalif_jax/{file})" for file in row["files"]),
                row["certainty"], streams(recipe_of(row["recipe"])), nir(recipe_of(row["recipe"])),
                f"[{row['recipe']}](../configs/{row['recipe']}.py)",
            )
            for row in rows()
        ],
    )  # fmt: skip
    command = (
        "`python -m ablations.event_systems --config configs/event_systems.py --workdir runs/events"
        " --config.epochs=8`"
    )
    lines.append(MEASURED.format(command=command))
    lines += table(
        ("system", "recipe", "epochs", "test, %", "unseen writers, %", "firing rate",
         "energy, exact, uJ"),
        [measured_row(row, name, found.get(name)) for row in rows() for name in row["events"]],
    )  # fmt: skip
    lines += ["", f"{series['cpu']}, {series['cores']} cores, jax {series['jax']}."]
    reasons = [f"* {row['title']}: {row['reason']}" for row in rows() if row.get("reason")]
    return lines + (["", *reasons] if reasons else [])


def measured_row(row, name, run):
    label = row["title"], f"`event_systems.py:{name}`"
    if run is None:
        return *label, "", "", "", "", ""
    return (
        *label, run["epochs"], f"{100 * run['accuracy']:.2f}",
        f"{100 * run['other_splits']['unseen_writers']:.2f}",
        f"{fmean(run['firing_rates'].values()):.3f}", energy([run]),
    )  # fmt: skip

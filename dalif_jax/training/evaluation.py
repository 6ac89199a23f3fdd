"""Evaluating a state on a whole split, exactly: every example once, spikes counted as integers."""

import contextlib
import json
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dalif_jax import neurons
from dalif_jax.analysis import operations
from dalif_jax.analysis.figures import OWN_LINE, numbers_of
from dalif_jax.analysis.summary import neuron_layers
from dalif_jax.atomic_write import atomic_write
from dalif_jax.data import sets
from dalif_jax.settings.config import neuron_options
from dalif_jax.training.inside import layer_of


class Structure(NamedTuple):
    """What evaluation knows of a network without running it."""

    neurons: dict  # summary.neuron_layers
    operations: list  # operations.operations
    options: Any  # of every neuron layer
    timesteps: int
    mac_pj: float
    ac_pj: float


def structure_of(model, config):
    """The Structure of a config's network."""
    spec = sets.spec(config.dataset, config.frame_size, config.found)
    shape = (config.timesteps, *spec.shape)
    return Structure(
        neuron_layers(model, shape), operations.operations(model, shape, not spec.events),
        neuron_options(config), config.timesteps, config.mac_pj, config.ac_pj,
    )  # fmt: skip


class Interrupted(Exception):
    """An evaluation was given up because the run is to stop."""


def evaluate(program, state, feed, structure, stop=lambda: False):
    """Accuracy, loss and what each neuron layer did, over all examples of a split.

    Args:
      program: training.Program.
      state: TrainState; its averaged weights are used where it holds them.
      feed: of the split, from feed.feed_of.
      structure: from structure_of.
      stop: asked before every batch whether to give up.
    Returns:
      dict: accuracy (0..1), loss (nats), examples, and per layer what its neuron shows (alpha and
      beta of DA-LIF), firing_rate (spikes per neuron and timestep), spikes and
      synaptic_operations (Python integers, summed over the split and its timesteps; each spike
      weighted by the synapses it drives); `energy`, totals by both rules, and `operations`, the
      same layer by layer, see operations.count; `confusion`, examples by right class and answer,
      None beyond training.CONFUSION_UP_TO classes. With config.mirrored_views also
      `mirrored_views`, the accuracy of the mean answer to an image and its mirror image.
    Raises:
      Interrupted: `stop` said so.
      AssertionError: the batches did not cover the split exactly once.
    """
    total, confusion = {"loss": 0.0, "correct": 0, "examples": 0, "shown": 0, "mirrored": 0}, None
    sums = {"spikes": {}, "nonzero": {}, "amount": {}, "products": {}}
    pending = None
    # The host sums one batch late, so that the next is already running.
    for batch in chain(feed.evaluate(), [None]):
        if stop():
            raise Interrupted
        done = pending
        if batch is not None:
            pending = program.eval_step(state, *batch)
        if done is None:
            continue
        counts = jax.device_get(done)
        for key in total.keys() & counts.keys():
            total[key] += counts[key].item()
        if "confusion" in counts:
            table = counts["confusion"].astype(np.int64)
            confusion = table if confusion is None else confusion + table
        for kind, layers in sums.items():
            for name, counted in counts[kind].items():
                # 64 bits on the host: one layer's total can pass 2^31.
                counted = counted.astype(np.int64)
                layers[name] = layers.get(name, 0) + (
                    int(counted.sum()) if kind == "products" else counted
                )
    if total["examples"] != feed.examples:  # no assert: python -O must not skip it
        raise AssertionError(f"{total['examples']} of {feed.examples} examples were evaluated")
    variables = (state.params, state.batch_stats)
    energy = operations.count(
        structure.operations,
        structure.timesteps,
        **sums,
        neurons={name: layer.neurons for name, layer in structure.neurons.items()},
        examples=total["shown"],
        parameters=sum(leaf.nbytes for leaf in jax.tree.leaves(variables)),
        mac_pj=structure.mac_pj,
        ac_pj=structure.ac_pj,
    )
    views = (
        {"mirrored_views": total["mirrored"] / total["examples"]} if "mirrored" in counts else {}
    )
    return views | {
        "accuracy": total["correct"] / total["examples"],
        "loss": total["loss"] / total["examples"],
        "examples": total["examples"],
        "layers": layer_records(state, structure, sums["spikes"], total["shown"]),
        "operations": energy.pop("layers"),
        "energy": energy,
        "confusion": None if confusion is None else confusion.tolist(),
    }


def layer_records(state, structure, spikes, examples):
    """{layer: what its neuron shows, firing_rate, spikes, synaptic_operations}, by depth."""
    show = neurons.of(structure.options).shown
    params = state.params if state.ema is None else state.ema
    records = {}
    for name, layer in structure.neurons.items():
        shown = show(structure.options, jax.device_get(layer_of(params, name)))
        fired = spikes[name]
        records[name] = {
            **{key: np.asarray(value).tolist() for key, value in shown.items()},
            "firing_rate": int(fired.sum()) / (examples * structure.timesteps * layer.neurons),
            "spikes": int(fired.sum()),
            "synaptic_operations": int((fired * layer.fan_out).sum()),
        }
    return records


def report(config, state, step, which, results):
    """What eval.json holds: the test figures at the top level, other splits beside them.

    Args:
      results: {split: what `evaluate` returned}, with "test" among them.
      which: "newest" or "best"; best is labelled with the split it was chosen on.
    """
    test = results["test"]
    chosen_on = "validation" if config.validation_split else "test"
    return {
        "accuracy": test["accuracy"],
        "examples": test["examples"],
        "loss": test["loss"],
        "timesteps": config.timesteps,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "model": config.model,
        "neuron": config.neuron,
        "dataset": config.dataset,
        "step": step,
        "checkpoint": which,
        "chosen_on": chosen_on if which == "best" else None,
        "other_splits": {
            name: {key: result[key] for key in ("accuracy", "examples", "loss")}
            for name, result in results.items()
            if name != "test"
        },
        "layers": test["layers"],
        "energy": test["energy"],
        "operations": test["operations"],
        "confusion": test["confusion"],
        **({"mirrored_views": test["mirrored_views"]} if "mirrored_views" in test else {}),
    }


def named(stem, which):
    """The name of a result of a checkpoint: "eval" of the newest, "eval_best" of the best."""
    return stem if which == "newest" else f"{stem}_{which}"


def write_report(workdir, config, state, step, which, results, guard=None):
    """Print what `report` gives as a table, then write it into the workdir as eval.json, at once or
    not at all.

    What is of another checkpoint than the newest has names of its own, eval_best.json. Without a
    workdir it is printed only. Writing happens inside `guard`, a context manager. Returns what
    `report` gives.
    """
    values = report(config, state, step, which, results)
    print(format_report(values))
    if workdir is None:
        return values
    path = Path(workdir) / f"{named('eval', which)}.json"
    with guard or contextlib.nullcontext():
        atomic_write(path, json.dumps(values, indent=2) + "\n")
        print(f"wrote {path}")
    return values


def format_report(values):
    """The dict of `report` as text: a line a split, the answer; then a line a layer."""
    width, shown = max(len(name) for name in values["layers"]), numbers_of([values])
    chosen = f", chosen on the {values['chosen_on']} set" if values["chosen_on"] else ""
    lines = [
        f"{name.replace('_', ' ')}: accuracy {row['accuracy']:.2%} of {row['examples']:,}, "
        f"loss {row['loss']:.4f}"
        for name, row in ({"test": values} | values["other_splits"]).items()
    ]
    if "mirrored_views" in values:
        lines.append(f"test, mean answer of mirrored views: {values['mirrored_views']:.2%}")
    lines += [
        f"{values['model']} with {values['neuron']} neurons on {values['dataset']}, "
        f"T = {values['timesteps']}, {values['parameters']:,} parameters",
        f"checkpoint: {values['checkpoint']}, step {values['step']}{chosen}",
        "",
        f"{'layer':<{width}}{''.join(f'  {key:>6}' for key in shown)}"
        "  firing rate          spikes   synaptic operations",
    ]
    for name, row in values["layers"].items():
        numbers = "".join(f"  {np.mean(row[key]):6.3f}" for key in shown)
        lines.append(
            f"{name:<{width}}{numbers}  {row['firing_rate']:11.2%}"
            f"  {row['spikes']:14,}  {row['synaptic_operations']:20,}"
        )
    lines += ["", *format_operations(values)]
    return "\n".join(lines)


def format_operations(values):
    """Lines: operations and energy of every layer with weights, and in all, by both rules."""

    def line(name, rate, row):
        cells = [f"{name:<{width}}  {'' if rate is None else format(rate, '.2%'):>7}"]
        for rule in ("paper", "exact"):
            macs, acs, energy = (row[rule][key] for key in ("macs", "acs", "energy_uj"))
            cells.append(f"  {macs:16,.0f}  {acs:16,.0f}  {energy:10.4g}")
        return "".join(cells)

    def of(rows):
        return {
            rule: {
                key: sum(row[f"{rule}_{key}"] for row in rows)
                for key in ("macs", "acs", "energy_uj")
            }
            for rule in ("paper", "exact")
        }

    energy, rows = values["energy"], values["operations"]
    shown = [row for row in rows if row["kind"] in OWN_LINE]
    rest = [row for row in rows if row["kind"] not in OWN_LINE]
    width = max(len(row["name"]) for row in [*rows, {"name": "norms and pools"}])
    columns = "".join(
        f"  {rule + ' MACs':>16}  {'ACs':>16}  {'uJ':>10}" for rule in ("paper", "exact")
    )
    lines = [f"{'an example':<{width}}  {'input':>7}" + columns]
    lines += [line(row["name"], row["input_rate"], of([row])) for row in shown]
    lines += [line("norms and pools", None, of(rest)), line("in all", None, energy)]
    paper, exact = energy["paper"], energy["exact"]
    lines += [
        "",
        f"paper (thop, SyOPs): {paper['flops']:,} FLOPs; dense network "
        f"{paper['dense_macs']:,} MACs, {paper['dense_energy_uj']:.4g} uJ",
        f"exact (NeuroBench): {exact['neuron_updates']:,} neuron updates; dense network "
        f"{exact['dense_macs']:,} MACs, {exact['dense_energy_uj']:.4g} uJ",
        f"activation sparsity {energy['activation_sparsity']:.2%}, footprint "
        f"{energy['footprint_bytes']:,} bytes; {energy['mac_pj']} pJ a MAC, {energy['ac_pj']} pJ "
        "an AC; 'input': share of spikes, empty where a layer takes real numbers",
    ]
    return lines

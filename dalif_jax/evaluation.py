"""Evaluating a state on a whole split, exactly: every example once, spikes counted as integers."""

import json
from itertools import chain
from pathlib import Path

import jax
import numpy as np

from dalif_jax import data
from dalif_jax.config import neuron_options
from dalif_jax.neurons import NEURONS
from dalif_jax.training import prepare


class Interrupted(Exception):
    """An evaluation was given up because the run is to stop."""


def evaluate(program, state, feed, config, layers, stop=lambda: False):
    """Accuracy, loss and what each neuron layer did, over all examples of a split.

    Args:
      program: training.Program.
      state: TrainState; its averaged weights are used where it holds them.
      feed: of the split, from feed.feed_of.
      layers: {name: NeuronLayer} from summary.neuron_layers.
      stop: asked before every batch whether to give up.
    Returns:
      dict: accuracy (0..1), loss (nats), examples, and per layer alpha, beta, firing_rate (spikes
      per neuron and timestep), spikes and synaptic_operations (Python integers, summed over the
      split and its timesteps; each spike weighted by the synapses it drives).
    Raises:
      Interrupted: `stop` said so.
      AssertionError: the batches did not cover the split exactly once.
    """
    total = {"loss": 0.0, "correct": 0, "examples": 0}
    spikes = {}
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
        for key in total:
            total[key] += counts[key].item()
        for name, fired in counts["spikes"].items():
            # 64 bits on the host: one layer's total can pass 2^31.
            spikes[name] = spikes.get(name, 0) + fired.astype(np.int64)
    assert total["examples"] == feed.examples, (total["examples"], feed.examples)
    return {
        "accuracy": total["correct"] / total["examples"],
        "loss": total["loss"] / total["examples"],
        "examples": total["examples"],
        "layers": layer_records(state, config, spikes, layers, total["examples"]),
    }


def look_inside(program, state, image, config, layers):
    """What the network does with one example.

    Args:
      image: uint8 [H, W, C], or counts of events [T, H, W, 2].
      layers: names of the neuron layers, in the order to return.
    Returns:
      (logits [T, K], {layer: spikes [T, H, W, C]}), NumPy, spikes as bool.
    """
    spec = data.spec(config.dataset, config.frame_size)
    params = state.params if state.ema is None else state.ema

    @jax.jit
    def forward(image):
        logits, taps = program.model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            prepare(image[None], spec, config.dtype),
            train=False,
            taps=("spikes",),
            timesteps=config.timesteps,
        )
        return logits[0], {name: tap["spikes"][0] != 0 for name, tap in taps.items()}

    logits, spikes = jax.device_get(forward(image))
    return logits, {name: spikes[name] for name in layers}


def layer_records(state, config, spikes, layers, examples):
    """{layer: alpha, beta, firing_rate, spikes, synaptic_operations}, in order of depth."""
    options = neuron_options(config)
    params = state.params if state.ema is None else state.ema
    records = {}
    for name, layer in layers.items():
        own = params
        for key in name.split("/"):
            own = own.get(key, {})
        own = jax.device_get(own)
        alpha, beta = NEURONS[options.name].decays(options, own)
        fired = spikes[name]
        records[name] = {
            "alpha": np.asarray(alpha).tolist(),
            "beta": np.asarray(beta).tolist(),
            "firing_rate": int(fired.sum()) / (examples * config.timesteps * layer.neurons),
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
    }


def write_report(workdir, config, state, step, which, results):
    """Write eval.json into the workdir, at once or not at all, and print it as a table."""
    values = report(config, state, step, which, results)
    path = Path(workdir) / "eval.json"
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(values, indent=2) + "\n")
    temporary.replace(path)
    print(format_report(values))
    print(f"wrote {path}")
    return values


def format_report(values):
    """The dict of `report` as text: one line a layer, then one a split."""
    width = max(len(name) for name in values["layers"])
    lines = [
        f"{'layer':<{width}}   alpha    beta  firing rate          spikes   synaptic operations"
    ]
    for name, row in values["layers"].items():
        alpha, beta = np.mean(row["alpha"]), np.mean(row["beta"])
        lines.append(
            f"{name:<{width}}  {alpha:6.3f}  {beta:6.3f}  {row['firing_rate']:11.2%}"
            f"  {row['spikes']:14,}  {row['synaptic_operations']:20,}"
        )
    chosen = f", chosen on the {values['chosen_on']} set" if values["chosen_on"] else ""
    lines += [
        "",
        f"{values['model']} with {values['neuron']} neurons on {values['dataset']}, "
        f"T = {values['timesteps']}, {values['parameters']:,} parameters",
        f"checkpoint: {values['checkpoint']}, step {values['step']}{chosen}",
    ]
    splits = {"test": values} | values["other_splits"]
    for name, row in splits.items():
        lines.append(
            f"{name.replace('_', ' ')}: accuracy {row['accuracy']:.2%} of {row['examples']:,}, "
            f"loss {row['loss']:.4f}"
        )
    return "\n".join(lines)

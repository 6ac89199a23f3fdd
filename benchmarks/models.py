"""Whole networks of SpikingJelly 2.0's own: SEW-ResNet-18 and PLIFNet, the same weights.

    python benchmarks/models.py --torch-python .venv-torch/bin/python
    python benchmarks/models.py --torch-python .venv-torch/bin/python --gate   # times nothing

In float64 both sides give the same logits and gradients before a train step of either is timed.
Their PLIFNet has biases in its linear layers, so has ours here, and neither drops anything: each
draws masks of its own. Theirs computes the first convolution of an image at every timestep.
"""

import argparse
import tempfile
from pathlib import Path

import measure
import numpy as np

IF = {"neuron": "lif", "alpha": 1.0, "beta": 1.0, "surrogate": "arctan", "detach_reset": True}
PLIF = {"neuron": "plif", "surrogate": "arctan", "detach_reset": True}
COMMON = {"augment": (), "weight_decay": 0.0, "rematerialize": "off"}
# network, keys of ours, timesteps, batch, side and channels, those of the gate.
CASES = {
    "sew_resnet18": (
        IF | {"dataset": "imagenet", "model_options": {"join": "add"}}, 4, 1, (224, 3), (64, 3)
    ),
    "plifnet_gesture": (
        PLIF | {"dataset": "dvsgesture",
                "model_options": {"head_bias": True, "dropout": (0.0, 0.0)}},
        20, 1, (128, 2), (128, 2),
    ),
}  # fmt: skip


def spec(name, dtype, gate=False):
    keys, timesteps, batch, size, small = CASES[name]
    side, channels = small if gate else size
    return {
        "kind": "model", "network": name, "dtype": dtype, "timesteps": 4 if gate else timesteps,
        "batch": 2 if gate else batch, "size": side, "channels": channels,
        "config": keys | COMMON | {"model": name, "frame_size": side},
    }  # fmt: skip


def gate(name, torch_python):
    """Largest differences of logits and of gradients, relative to the largest of each array."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = str(Path(folder) / "given.npz"), []
        sides = [
            measure.Side(label, spec(name, "float64", gate=True), python)
            for label, python in (("ours", None), ("theirs", torch_python))
        ]
        sides[0].weights(out=given)
        for side in sides:
            out = str(Path(folder) / f"{side.name}.npz")
            side.gate(inputs=given, out=out)
            found.append(dict(np.load(out)))
            side.close()
    ours, theirs = found
    if set(ours) != set(theirs):
        raise SystemExit(f"other parameters: {sorted(set(ours) ^ set(theirs))}")
    far = {
        key: float(np.abs(ours[key] - theirs[key]).max() / max(np.abs(theirs[key]).max(), 1e-30))
        for key in ours
    }
    worst = max(far.values())
    if np.ptp(ours["logits"]) == 0:
        raise SystemExit(f"{name}: all answers are the same, which compares nothing")
    if worst > 1e-9:
        raise SystemExit(f"{name}: not the same network, {worst:.1e} at {max(far, key=far.get)}")
    logits = far.pop("logits")
    return {"logits": logits, "gradients": max(far.values()), "arrays": len(far)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", required=True, help="Python with SpikingJelly")
    parser.add_argument("--gate", action="store_true", help="compare, time nothing")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out", default="models_cpu")
    arguments, conditions = measure.parse(parser)

    records = []
    for name in CASES:
        record = {"network": name, "gate": gate(name, arguments.torch_python), "sides": {}}
        print(name, record["gate"], flush=True)
        if arguments.gate:
            continue
        case = spec(name, "float32")
        record |= {key: case[key] for key in ("timesteps", "batch", "size")}
        sides = [
            measure.Side("ours", case), measure.Side("theirs", case, arguments.torch_python)
        ]  # fmt: skip
        for side in sides:
            record["sides"][side.name] = side.prepare()
        timed = measure.alternate(sides, arguments.rounds, arguments.steps)
        for side in sides:
            record["sides"][side.name] |= timed[side.name] | side.peak()
            side.close()
        shown = {key: f"{row['median_s']:.3f} s" for key, row in record["sides"].items()}
        print(name, shown, flush=True)
        records.append(record)
    if records:
        measure.write(arguments.out, records, **conditions)


if __name__ == "__main__":
    main()

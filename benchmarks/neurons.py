"""A for every neuron: one layer, forward and backward, beside SpikingJelly's own where it has one.

    python benchmarks/neurons.py --torch-python .venv-torch/bin/python

SpikingJelly has the same maths for LIF, PLIF, KLIF and GLIF, checked in float64 before anything is
timed. Its MPBN carries the normed membrane on and its adaptive neurons are others: those have no
row beside ours. The floor is as in neuron.py.
"""

import argparse
import tempfile
from pathlib import Path

import measure
import numpy as np

TIMESTEPS = (4, 16)
# Options with which both sides compute the same, or as the papers have it.
OURS = {
    "dalif": {}, "lif": {"alpha": 0.5, "beta": 0.5}, "plif": {}, "klif": {},
    "glif": {"per_channel": True}, "lsg": {"threshold": 0.5}, "ltmd": {}, "mlf": {},
    "diet": {"surrogate": "bell"}, "alif": {"threshold": 0.5, "surrogate": "bell"},
    "bdett": {}, "imlif": {"threshold": 0.5}, "liaf": {"threshold": 0.5, "detach_reset": True},
    "mpbn": {"membrane_bn": True, "threshold": 0.5, "surrogate": "tanh"},
}  # fmt: skip
THEIRS = ("lif", "plif", "klif", "glif")


def spec(name, timesteps, values, dtype):
    batch = max(1, values // (timesteps * 32 * 32 * 64))
    neuron = "lif" if name == "mpbn" else name
    return {
        "kind": "layer", "neuron": neuron, "options": OURS[name], "timesteps": timesteps,
        "shape": [batch, 32, 32, 64], "dtype": dtype,
    }  # fmt: skip


def gate(ours, theirs, name):
    """Both sides fire the same spikes and pass the same gradients, in float64; how far they are."""
    case = spec(name, 4, 2**18, "float64")
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{side}.npz") for side in ("given", "ours", "theirs")]
        for side in (ours, theirs):
            side.become(spec=case)
        ours.weights(out=paths[0])
        ours.gate(inputs=paths[0], out=paths[1])
        theirs.gate(inputs=paths[0], out=paths[2])
        mine, other = (dict(np.load(path)) for path in paths[1:])
    differ = int((mine["spikes"] != other["spikes"]).sum())
    far = {key: float(np.abs(mine[key] - other[key]).max() / max(np.abs(other[key]).max(), 1e-30))
           for key in mine if key != "spikes"}  # fmt: skip
    if differ or max(far.values()) > 1e-11:
        raise SystemExit(f"{name} is another neuron there: {differ} spikes differ, {far}")
    return {"spikes": int(mine["spikes"].sum()), "differ": differ, "gradients": max(far.values())}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", required=True, help="Python with SpikingJelly")
    parser.add_argument("--values", type=int, default=2**23, help="elements of x; 2**28 for a GPU")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", default="neurons_cpu")
    arguments, conditions = measure.parse(parser)

    first = spec("lif", 4, 2**18, "float32")
    # The gate switches float64 on for good: its process is not the one that is timed.
    gating = measure.Side("gate", first)
    ours = measure.Side("ours", first)
    theirs = measure.Side("theirs", first, arguments.torch_python)
    gates = {name: gate(gating, theirs, name) for name in THEIRS}
    gating.close()
    print(gates, flush=True)

    records = []
    for name in OURS:
        for timesteps in TIMESTEPS:
            record = {"neuron": name, "timesteps": timesteps, "dtype": "float32", "sides": {}}
            sides = [ours, theirs] if name in THEIRS else [ours]
            for side in sides:
                side.become(spec=spec(name, timesteps, arguments.values, "float32"))
                record["sides"][side.name] = side.prepare()
            for label, timing in measure.alternate(sides, arguments.rounds, 5).items():
                side = {"ours": ours, "theirs": theirs}[label]
                record["sides"][label] |= timing | side.peak()
            record |= measure.floor(sides)
            records.append(record)
            shown = {n: f"{1e3 * r['median_s']:.1f}" for n, r in record["sides"].items()}
            print(
                f"{name} T={timesteps} floor {1e3 * record['floor_s']:.1f} ms {shown}", flush=True
            )
    for side in (ours, theirs):
        side.close()
    measure.write(arguments.out, records, gates=gates, **conditions)


if __name__ == "__main__":
    main()

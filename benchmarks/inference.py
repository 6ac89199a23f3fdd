"""E. Inference: one timestep of streaming input, and whole batches, in float32.

    python benchmarks/inference.py --torch-python .venv-torch/bin/python

Latency is of one timestep at batch 1, the state kept from call to call, as behind a camera;
throughput of batches with all their timesteps. Nothing is timed before ours, streamed and whole,
and the same DA-LIF in PyTorch give the same logits in float64. SpikingJelly's and snnTorch's own
neurons, simpler ones, stand beside it.
"""

import argparse
import tempfile
from pathlib import Path

import measure
import numpy as np

# network, timesteps, height and width, channels, classes, batch of the throughput; 256 frames of
# 128 x 128 at T = 16 would take 17 GB for one layer's output alone.
CASES = (
    ("small", 4, 32, 3, 10, 256),
    ("resnet20", 4, 32, 3, 10, 256),
    ("vgg11", 16, 128, 2, 11, 8),
)
# name: (neuron, all timesteps in one call or one)
THEIRS = {
    "spikingjelly s": ("plif", "s"),
    "spikingjelly m": ("plif", "m"),
    "snntorch": ("snntorch", "s"),
    "plain loop": ("stepped", "s"),
}


def gate(spec, torch_python):
    """The largest difference between logits of ours streamed, ours whole and DA-LIF in PyTorch."""
    spec = spec | {"dtype": "float64", "batch": 2, "size": min(spec["size"], 64)}
    with tempfile.TemporaryDirectory() as folder:
        given = str(Path(folder) / "given.npz")
        theirs = spec | {"neuron": "stepped", "mode": "s", "compile": False}
        sides = measure.Side("ours", spec), measure.Side("theirs", theirs, torch_python)
        sides[0].weights(out=given)
        found = []
        for side in sides:
            out = str(Path(folder) / f"{side.name}.npz")
            side.gate(inputs=given, out=out)
            found.append(dict(np.load(out)))
            side.close()
    reference = found[1]["logits"]
    if not np.ptp(reference, 1).any():
        raise SystemExit(f"{spec['network']}: logits that do not change in time compare nothing")
    largest = max(float(np.abs(found[0][k] - reference).max()) for k in ("streamed", "batch"))
    if largest > 1e-9:
        raise SystemExit(f"{spec['network']}: not the same network, {largest:.1e} in float64")
    return largest


def contenders(spec):
    """{name: (spec, whether it is ours)}."""
    # The second is beside the table's precision, in no ratio.
    out = {"ours": (spec, True), "ours in bfloat16": (spec | {"dtype": "bfloat16"}, True)}
    for name, (neuron, mode) in THEIRS.items():
        side = spec | {"neuron": neuron, "mode": mode}
        out[name] = side | {"compile": False}, False
        out[f"{name} compiled"] = side | {"compile": True}, False
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", required=True, help="with SpikingJelly and snnTorch")
    parser.add_argument("--only", default="", help="a network of the list")
    parser.add_argument("--task", default="", choices=("", "latency", "throughput"))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", default="inference_cpu")
    arguments, conditions = measure.parse(parser)

    records = []
    for network, timesteps, size, channels, classes, batch in CASES:
        for task in ("latency", "throughput"):
            if arguments.only not in ("", network) or arguments.task not in ("", task):
                continue
            spec = {
                "kind": "inference", "task": task, "network": network, "timesteps": timesteps,
                "size": size, "channels": channels, "classes": classes, "dtype": "float32",
                "batch": 1 if task == "latency" else batch,
            }  # fmt: skip
            record = {"spec": spec}
            record["float64_largest_difference"] = gate(spec, arguments.torch_python)
            ready, record["sides"], record["failed"] = measure.prepare(
                contenders(spec), arguments.torch_python
            )
            steps = 100 if task == "latency" else 2
            for name, timing in measure.alternate(ready, arguments.rounds, steps).items():
                record["sides"][name] |= timing
            for side in ready:
                record["sides"][side.name] |= side.peak()
            record["gflops"] = measure.ceiling([ready[0], ready[-1]])
            for side in ready:
                side.close()
            records.append(record)
            for name, side in record["sides"].items():
                print(f"{network} {task} {name}: {1e3 * side['median_s']:.2f} ms", flush=True)
            for name, why in record["failed"].items():
                print(f"{network} {task} {name} failed: {why}", flush=True)
            measure.write(arguments.out, records, **conditions)


if __name__ == "__main__":
    main()

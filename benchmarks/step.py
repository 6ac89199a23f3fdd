"""B. A whole train step: ours against SpikingJelly 2.0, the same network, batch and precision.

    python benchmarks/step.py --torch-python .venv-torch/bin/python            # two CPU cores
    python benchmarks/step.py --torch-python python --gpu --out step_gpu       # a GPU, bfloat16

Nothing is timed before both sides give, from the same weights and batch, the same logits and
gradients in float64, and nearly the same loss in the timed precision.
"""

import argparse
import tempfile
from pathlib import Path

import measure
import numpy as np

# network, timesteps, height and width, channels, classes, batch on CPU, batch on a GPU
CASES = (
    ("resnet20", 2, 32, 3, 10, 16, 512),
    ("resnet20", 4, 32, 3, 10, 8, 256),
    ("resnet19", 2, 32, 3, 10, 4, 128),
    ("resnet18", 4, 224, 3, 1000, 1, 64),
    ("vgg11", 16, 128, 2, 11, 1, 16),
)


def compare(folder, spec, torch_python):
    """Largest difference of logits and gradients, and of the loss, between the two sides."""
    given = str(folder / "given.npz")
    sides = measure.Side("ours", spec), measure.Side("theirs", spec, torch_python)
    sides[0].weights(out=given)
    found = []
    for side in sides:
        out = folder / f"{side.name}.npz"
        side.gate(inputs=given, out=str(out))
        found.append(dict(np.load(out)))
        side.close()
    ours, theirs = found
    if set(ours) != set(theirs):
        raise SystemExit(f"other parameters: {sorted(set(ours) ^ set(theirs))}")
    largest = max(float(np.abs(ours[key] - theirs[key]).max()) for key in ours)
    return largest, float(abs(ours["loss"] - theirs["loss"]))


def gate(spec, torch_python):
    with tempfile.TemporaryDirectory() as folder:
        small = spec | {"batch": 2, "dtype": "float64", "size": min(spec["size"], 64)}
        largest, _ = compare(Path(folder), small, torch_python)
        _, loss = compare(Path(folder), spec, torch_python)
    # In float64 the two are one network; below it, sums in another order make a membrane near its
    # threshold fire on one side alone, and what follows differs.
    tolerance = 2e-2 if spec["dtype"] == "bfloat16" else 1e-2
    if largest > 1e-9 or loss > tolerance:
        raise SystemExit(f"not the same network: {largest:.1e} in float64, loss {loss:.1e}")
    return {"float64_largest_difference": largest, "first_loss_difference": loss}


def contenders(spec, gpu):
    """{name: (spec, whether it is ours)}: both memory layouts, the same neuron and the simpler, and
    both in torch.compile, with SpikingJelly and as a plain loop over time."""
    out = {"ours": (spec, True)}
    if not gpu:  # beside the table's precision, in no ratio
        out["ours in bfloat16"] = (spec | {"dtype": "bfloat16"}, True)
    if gpu:
        out["ours pallas"] = (spec | {"config": {"kernel": "pallas"}}, True)
    for neuron in ("dalif", "plif"):
        for layout in ("nchw", "nhwc"):
            theirs = spec | {"neuron": neuron, "channels_last": layout == "nhwc"}
            out[f"spikingjelly {neuron} {layout}"] = (theirs, False)
            if gpu or (neuron, layout) == ("plif", "nchw"):
                compiled = theirs | {"compile": True}
                out[f"spikingjelly {neuron} {layout} compiled"] = (compiled, False)
    for layout in ("nchw", "nhwc"):
        plain = spec | {"neuron": "dalif_eager", "channels_last": layout == "nhwc"}
        out[f"plain loop {layout} compiled"] = (plain | {"compile": True}, False)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", required=True, help="Python with SpikingJelly")
    parser.add_argument("--gpu", action="store_true", help="GPU batches, bfloat16")
    parser.add_argument("--only", default="", help="a network of the list")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out", default="step_cpu")
    arguments, conditions = measure.parse(parser)

    records = []
    for network, timesteps, size, channels, classes, *batches in CASES:
        if arguments.only not in ("", network):
            continue
        spec = {
            "kind": "step", "network": network, "timesteps": timesteps, "size": size,
            "channels": channels, "classes": classes, "batch": batches[arguments.gpu],
            "dtype": "bfloat16" if arguments.gpu else "float32", "neuron": "dalif",
            "dataset": "imagenet" if size == 224 else "cifar10",
        }  # fmt: skip
        record = {"spec": spec, "gate": gate(spec, arguments.torch_python)}
        ready, record["sides"], record["failed"] = measure.prepare(
            contenders(spec, arguments.gpu), arguments.torch_python
        )
        for name, timing in measure.alternate(ready, arguments.rounds, arguments.steps).items():
            record["sides"][name] |= timing
        for side in ready:
            record["sides"][side.name] |= side.peak()
        # After the peaks: these take arrays of their own.
        both = [ready[0], ready[-1]]
        record["gflops"], record["bandwidth"] = measure.ceiling(both), measure.bandwidth(both)
        work = record["work"] = ready[0].work()
        record["floor_s"] = 1e-9 * work["flops"] / max(record["gflops"].values())
        record["floor_s"] += work["bytes"] / max(record["bandwidth"].values())
        for side in ready:
            side.close()
        records.append(record)
        for name, side in record["sides"].items():
            print(
                f"{network} T={timesteps} {name}: {spec['batch'] / side['median_s']:.1f} images/s, "
                f"peak {side['peak_bytes'] / 2**20:.0f}, "
                f"of its steps {side.get('steps_peak_bytes', 0) / 2**20:.0f} MiB",
                flush=True,
            )
        measure.write(arguments.out, records, **conditions)


if __name__ == "__main__":
    main()

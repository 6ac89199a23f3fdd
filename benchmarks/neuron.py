"""A. One DA-LIF layer, forward and backward: ours against SpikingJelly's and torch.compile's.

    python benchmarks/neuron.py --torch-python .venv-torch/bin/python

Every T moves the same number of values. The floor is the time to move what must move at the
bandwidth of a copy measured in the same run: x in and spikes out, then x and gradient in and
gradient out, 5 arrays where a copy moves 2.
"""

import argparse
import tempfile
from pathlib import Path

import measure
import numpy as np

TIMESTEPS = (1, 2, 4, 8, 10, 16, 32)
OURS = ("fused", "pallas", "scan")  # pallas: on a GPU, else the same program as fused
THEIRS = ("dalif", "plif", "dalif_compiled", "dalif_eager")


def spec(neuron, timesteps, values, dtype):
    batch = max(1, values // (timesteps * 32 * 32 * 64))
    return {
        "kind": "neuron",
        "neuron": neuron,
        "timesteps": timesteps,
        "shape": [batch, 32, 32, 64],
        "dtype": dtype,
    }


def gate(sides):
    """The same x and gradient give the same spikes and gradients on every side that is DA-LIF."""
    with tempfile.TemporaryDirectory() as folder:
        given = str(Path(folder) / "given.npz")
        sides["fused"].weights(out=given)
        found = {}
        for name, side in sides.items():
            if name != "plif":
                side.gate(inputs=given, out=str(Path(folder) / f"{name}.npz"))
                found[name] = dict(np.load(Path(folder) / f"{name}.npz"))
    reference = found.pop("fused")
    for name, other in found.items():
        # float32 membranes within a rounding of the threshold may fall on either side of it.
        flipped = (reference["spikes"] != other["spikes"]).mean()
        far = ~np.isclose(reference["x"], other["x"], rtol=1e-4, atol=1e-5)
        if flipped > 1e-5 or far.mean() > 1e-4:
            raise SystemExit(f"{name} is another neuron: {flipped:.1e} spikes, {far.mean():.1e} gx")
        for decay in ("a", "b"):
            np.testing.assert_allclose(other[decay], reference[decay], rtol=5e-3, atol=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", required=True, help="Python with SpikingJelly")
    parser.add_argument("--values", type=int, default=2**23, help="elements of x; 2**28 for a GPU")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--gpu", action="store_true", help="time the Pallas kernel too")
    parser.add_argument("--out", default="neuron_cpu")
    arguments, conditions = measure.parse(parser)

    first = spec("fused", 4, 2**18, "float32")
    sides = {name: measure.Side(name, first | {"neuron": name}) for name in OURS}
    if not arguments.gpu:
        sides.pop("pallas").close()
    for name in THEIRS:
        sides[name] = measure.Side(name, first | {"neuron": name}, arguments.torch_python)
    gate(sides)
    conditions["gflops"] = measure.ceiling([sides["fused"], sides["dalif"]])

    records = []
    for dtype in ("float32", "bfloat16"):
        for timesteps in TIMESTEPS:
            record = {"timesteps": timesteps, "dtype": dtype, "sides": {}, "failed": {}}
            ready = []
            for name, side in sides.items():
                try:
                    side.become(spec=spec(name, timesteps, arguments.values, dtype))
                    record["sides"][name] = side.prepare()
                    ready.append(side)
                except measure.Failed as error:
                    record["failed"][name] = str(error)
            for name, timing in measure.alternate(ready, arguments.rounds, 5).items():
                record["sides"][name] |= timing | sides[name].peak()
            record |= measure.floor([sides[name] for name in ("fused", "dalif")])
            records.append(record)
            shown = {n: f"{1e3 * r['median_s']:.1f}" for n, r in record["sides"].items()}
            print(
                f"{dtype} T={timesteps} floor {1e3 * record['floor_s']:.1f} ms {shown}", flush=True
            )
    for side in sides.values():
        side.close()
    measure.write(arguments.out, records, **conditions)


if __name__ == "__main__":
    main()

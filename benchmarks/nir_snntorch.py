"""A trained network's NIR file in snnTorch: are its spikes the same?

    python eval.py --workdir runs/digits --export cards/digits
    PYTHONPATH=.:benchmarks python benchmarks/nir_snntorch.py --card cards/digits \
        --torch-python .venv-torch/bin/python

Takes the whole test set, both sides computing in float64. snnTorch's reader rounds weights, leaks
and thresholds to float32, which moves membranes by 1e-7 and flips a few spikes; so it runs twice:
with the file's own numbers put back, and as it reads the file. That environment also needs
`pip install snntorch==1.0.0 nir nirtorch h5py`.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import measure
import numpy as np

from dalif_jax import networks
from dalif_jax.data import sets
from dalif_jax.exchange import card, interchange
from dalif_jax.settings import config
from dalif_jax.training import prepare


def differing(spikes, theirs, layers):
    """{layer: spikes that differ} and how many there are, of [B, T, C, H, W] against theirs."""
    return {
        name: int((np.asarray(spikes[name]) != theirs[name].astype(bool)).sum()) for name in layers
    }


def in_snntorch(torch_python, folder, numbers):
    """{layer: spikes}, and the output, of network.nir and input.npy in the folder.

    numbers: float64, or float32 as its reader rounds them.
    """
    worker = Path(__file__).with_name("snntorch_worker.py")
    out = folder / f"{numbers}.npz"
    subprocess.run(
        [torch_python, worker, folder, numbers, out], check=True, stdout=subprocess.DEVNULL
    )
    return dict(np.load(out))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--card", required=True, help="a model card's folder")
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--out", default="nir_snntorch")
    given = parser.parse_args()

    settings, _, state, stated = card.load(given.card)
    jax.config.update("jax_enable_x64", True)
    settings.data_dir = given.data_dir
    split = config.load_data(settings)["test"]
    spec = sets.spec(settings.dataset, settings.frame_size, settings.found)
    options = config.neuron_options(settings)
    model = networks.build(settings.model, spec.classes, options, jnp.float64)
    variables = jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float64),
        {"params": state.params, "batch_stats": state.batch_stats},
    )
    x = prepare(jnp.asarray(split.images), spec, jnp.float64)
    x = jnp.broadcast_to(x, (len(x), settings.timesteps, *spec.shape))

    logits, taps, _ = jax.jit(lambda x: networks.tapped(model, variables, x, ("spikes",)))(x)
    layers = {name.replace("/", "."): tap["spikes"] != 0 for name, tap in taps.items()}
    layers = {name: np.moveaxis(np.asarray(spikes), -1, 2) for name, spikes in layers.items()}
    # snnTorch reads no SumPool2d.
    graph = interchange.to_nir(model, variables, options, spec.shape, average_pool=True)
    chw = jnp.moveaxis(x, -1, 2)

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        interchange.write(folder / "network.nir", graph)
        np.save(folder / "input.npy", np.asarray(chw))
        exact = in_snntorch(given.torch_python, folder, "float64")
        as_read = in_snntorch(given.torch_python, folder, "float32")
    accuracy = float((logits.mean(1).argmax(-1) == split.labels).mean())
    theirs = exact["output"].reshape(logits.shape)
    record = {
        "model": settings.model, "dataset": settings.dataset, "timesteps": settings.timesteps,
        "examples": len(x), "accuracy_float64": accuracy, "accuracy_stated": stated["accuracy"],
        "compared": sum(spikes.size for spikes in layers.values()),
        "spikes": {name: int(spikes.sum()) for name, spikes in layers.items()},
        "differing": differing(layers, exact, layers),
        "differing_as_read": differing(layers, as_read, layers),
        "logits_apart": float(np.abs(theirs - logits).max()),
        "snntorch": str(exact["versions"]),
    }  # fmt: skip
    for key in ("differing", "differing_as_read"):
        print(f"{key}: {sum(record[key].values())} of {record['compared']:,}")
    measure.write(given.out, [record])


if __name__ == "__main__":
    main()

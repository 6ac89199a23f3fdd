"""Runs network.nir of a folder in snnTorch on input.npy [B, T, C, H, W]; writes every spike.

python benchmarks/snntorch_worker.py FOLDER float64|float32 OUT.npz
"""

import sys
from importlib.metadata import version
from pathlib import Path

import nir
import numpy as np
import torch
from snntorch.import_nir import import_from_nir

DT = 1e-4  # seconds, as the reader assumes


def main(folder, numbers, out):
    torch.set_default_dtype(torch.float64)
    path = str(Path(folder) / "network.nir")
    network = import_from_nir(nir.read(path)).double()
    modules, graph = dict(network.named_modules()), nir.read(path)
    # nirtorch names modules after nodes, with other signs between the parts.
    by_name = {name.replace("_", "").replace(".", ""): m for name, m in modules.items()}
    spikes, named = {}, {}
    for name, node in graph.nodes.items():
        module = by_name.get(name.replace("_", "").replace(".", ""))
        if isinstance(node, nir.LIF):
            named[name] = module
        if numbers == "float32":
            continue
        # What the reader has rounded to float32, by its own formulas.
        if hasattr(node, "weight"):
            module.weight.data = torch.from_numpy(np.asarray(node.weight))
            module.bias.data = torch.from_numpy(np.asarray(node.bias))
        if isinstance(node, nir.LIF):
            share = np.asarray(DT / node.tau)
            module.beta = torch.from_numpy(1 - share)
            module.threshold = torch.from_numpy(node.v_threshold / (node.r * share))
    for name, module in named.items():
        keep = spikes.setdefault(name, [])
        module.register_forward_hook(
            lambda _, __, fired, keep=keep: keep.append(
                (fired[0] if isinstance(fired, tuple) else fired).numpy().astype(bool)
            )
        )
    for module in modules.values():
        if isinstance(module, torch.nn.Conv2d | torch.nn.AvgPool2d):
            # snnTorch's spikes are float32 whatever the membranes are.
            module.register_forward_pre_hook(lambda _, given: (given[0].double(),))
    x, outputs, state = torch.from_numpy(np.load(Path(folder) / "input.npy")), [], None
    with torch.no_grad():
        for t in range(x.shape[1]):
            given = network(x[:, t], state) if state is not None else network(x[:, t])
            given, state = given if isinstance(given, tuple) else (given, None)
            outputs.append(given.numpy())
    names = ("snntorch", "nirtorch", "nir", "torch")
    np.savez(
        out,
        output=np.stack(outputs, 1),
        versions=" ".join(f"{name} {version(name)}" for name in names),
        **{name: np.stack(values, 1) for name, values in spikes.items()},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

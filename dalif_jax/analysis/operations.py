"""What a network computes and what that costs: operations of every layer, by two rules, and energy.

`paper` counts as the tools behind the paper's Table III do. FLOPs by thop: multiply-accumulates of
convolutions and linear layers without their bias, 4 for each value a norm gives, 1 for each an
average pool gives, none for a max pool, the window's size and 1 for each of a global one. MACs and
ACs by SyOPs: the same with bias, 2 for each value a norm takes, 1 for each a pool takes, neurons
free; what takes spikes counts as accumulates, times the mean of its input, all else as
multiply-accumulates. All timesteps count, the first convolution of a static image too; a linear
layer's bias alone counts once a call, as SyOPs has it, and all timesteps are one call. What
attention multiplies is added by both rules as multiply-accumulates, and to the FLOPs.

`exact` counts synaptic operations as NeuroBench does (effective ACs and MACs): for each value that
is not zero, the synapses it drives, borders and strides as they are; an AC where it is a spike, as
many as it says where spikes are small integers (to SyOPs those are MACs), a MAC where it is an
image, a count of events, an average, or a neuron's output that is real. The first convolution of a
static image counts once, as it is computed once. Norms fold into weights at inference and count
nothing; the neurons' own updates, one for each neuron and timestep, are listed beside the synapses.
Attention between spikes is accumulates: of a query's and a key's, one where both are 1; of a value,
one for each query that sees its spike.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dalif_jax import neurons as pieces
from dalif_jax.analysis.summary import watching
from dalif_jax.networks import GlobalAverage, MaxPool, layer_kind

MAC_PJ, AC_PJ = 4.6, 0.9  # of 32-bit floats in 45 nm (Horowitz, ISSCC 2014), as the paper takes


class Operation(NamedTuple):
    """One layer's work for one example and one timestep."""

    name: str
    kind: str  # conv, linear, norm, membrane_norm, pool, attention
    # What gives the spikes that it takes as they are: a neuron layer, a max pool or a join of
    # branches; None: real numbers.
    source: str | None
    levels: int  # the largest of those spikes; 0: they are reals
    inputs: int  # values it takes
    flops: int  # paper
    operations: int  # paper: MACs, or ACs before they are weighted with the mean of the input
    once: int  # paper: likewise, but for all timesteps together
    fan_out: np.ndarray | None  # exact: int64 [H, W], or [1, 1], synapses of an input value there
    steps: int  # exact: timesteps it runs for, 1 where a static image enters
    dense: int  # exact: synaptic operations of one step if no value were zero
    attends: int = 0  # both: MACs of attention, for all timesteps together

    def total(self, timesteps):
        """Operations of all timesteps by the `paper` rule."""
        return self.operations * timesteps + self.once + self.attends


def operations(model, shape, static):
    """Every layer of `model` that computes, in the order it runs.

    Args:
      model: from networks.build.
      shape: (T, H, W, C) of the input.
      static: whether the T frames are one image (the model then is shown one and keeps T).
    Returns:
      list of Operation.
    """
    timesteps = shape[0]
    x = jnp.zeros((1, 1 if static else timesteps, *shape[1:]))
    calls, sources = [], {}

    def record(call, args, kwargs, context):
        out = call(*args, **kwargs)
        module = context.module
        if context.method_name == "__call__" and layer_kind(module):
            calls.append((module.path, module, args[0].shape[1:], out.shape[1:]))
        return out

    with watching(record):
        variables = jax.eval_shape(
            lambda: model.init(jax.random.key(0), x, train=False, timesteps=timesteps)
        )
    shapes = {path: out for path, _, _, out in calls}

    # Who takes whose spikes: every neuron gives numbers found nowhere else.
    draw, given, levels = np.random.default_rng(0), {}, {}

    def origin(value):
        if not hasattr(value, "shape"):
            return None
        value = np.asarray(value).ravel()
        return next((name for name, other in given.items() if np.array_equal(other, value)), None)

    def trace(call, args, kwargs, context):
        module = context.module
        kind = layer_kind(module)
        if context.method_name != "__call__" or kind is None:
            return call(*args, **kwargs)
        # What a norm or neuron takes is real, though a shortcut's spikes look alone here.
        weighted = kind in ("conv", "linear", "pool", "join")
        found = [origin(value) for value in args[:2]] if weighted else [None]
        name, sources[module.path] = "/".join(module.path), found[0]
        out = (1, *shapes[module.path])
        if kind == "neuron":
            value = draw.random(out, np.float32)
            given[name], levels[name] = value.ravel(), pieces.of(module.options).levels
            return jnp.asarray(value)
        if kind in ("pool", "attention", "join"):
            value = call(*args, **kwargs)
            if kind == "join" and None not in found:
                levels[name] = module.levels(*(levels[source] for source in found))
            elif isinstance(module, MaxPool) and found[0]:
                levels[name] = levels[found[0]]
            if name in levels:
                given[name] = np.asarray(value).ravel()
            return value
        return jnp.zeros(out)

    # Weights are not read, so one value stands for each array.
    blank = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), variables)
    with watching(trace):
        model.apply(blank, x, train=False, timesteps=timesteps)

    return [
        operation
        for path, module, taken, out in calls
        if (operation := _operation(path, module, taken, out, sources[path], levels))
    ]


def _operation(path, module, taken, out, source, levels):
    steps, inputs, outputs = taken[0], int(np.prod(taken[1:])), int(np.prod(out[1:]))
    name, fan_out, dense, once, attends = "/".join(path), None, 0, 0, 0
    kind = layer_kind(module)
    if kind == "neuron":
        if not module.options.membrane_bn:
            return None
        kind, flops, count = "membrane_norm", 4 * outputs, 2 * inputs
    elif kind == "norm":
        flops, count = 4 * outputs, 2 * inputs
    elif isinstance(module, GlobalAverage):
        flops, count = outputs * (inputs // outputs + 1), inputs
    elif kind == "pool":
        flops, count = 0 if isinstance(module, MaxPool) else outputs, inputs
    elif kind == "join":
        return None
    elif kind == "attention":  # layers inside it stand for themselves
        flops = count = 0
        attends = module.macs(taken) if hasattr(module, "macs") else 0
        dense = attends // steps
        if hasattr(module, "products"):
            dense = module.products(taken) // steps
    elif kind == "linear":
        flops = inputs * outputs
        count, once = flops, outputs * module.use_bias
        fan_out = np.full((1, 1), outputs, np.int64)
    else:
        flops = outputs * int(np.prod(module.kernel_size)) * taken[-1]
        count = flops + outputs * module.use_bias
        reach = [
            _reach(size, made, k, stride, pad[0])
            for size, made, k, stride, pad in zip(
                taken[1:3], out[1:3], module.kernel_size, module.strides, module.padding,
                strict=True,
            )
        ]  # fmt: skip
        fan_out = np.outer(*reach) * out[-1]
    if fan_out is not None:
        dense = int(fan_out.sum()) * taken[-1]
    level = levels.get(source, 1)
    return Operation(
        name, kind, source, level, inputs, flops, count, once, fan_out, steps, dense, attends
    )


def _reach(size, made, kernel, stride, pad):
    """int64 [size]: how many of the `made` outputs each input position of a row reaches."""
    count = np.zeros(size, np.int64)
    for out in range(made):
        first = out * stride - pad
        count[max(first, 0) : max(min(first + kernel, size), 0)] += 1
    return count


def count(
    table, timesteps, spikes, nonzero, neurons, examples, parameters, mac_pj, ac_pj, amount=None,
    products=None,
):  # fmt: skip
    """Operations and energy per example, by both rules.

    Args:
      table: from `operations`.
      spikes: {neuron layer: int64 [H, W]}, summed over examples, timesteps and channels; where they
        are reals, how many are not zero.
      nonzero: {convolution or linear layer: int64 [H, W] or []}, values of its input that are not
        zero, summed likewise.
      amount: likewise the sums of those values, of layers that take spikes above 1.
      products: {attention between spikes: how many of its products were of two}.
      neurons: {neuron layer: H W C}.
      examples: how many were counted.
      parameters: bytes of all weights and running statistics.
      mac_pj, ac_pj: energy of an operation, pJ.
    Returns:
      {"paper": totals, "exact": totals, "layers": [a dict a layer], ...}, plain numbers. Totals are
      per example, over all timesteps: macs, acs, flops (paper), energy_uj, and the same network as
      a dense one without spikes, run once: dense_macs, dense_energy_uj. `exact` also holds the
      integers that were divided, over all examples: all_macs, all_acs.
    """
    rates = {
        name: int(fired.sum()) / (examples * timesteps * neurons[name])
        for name, fired in spikes.items()
    }
    rows = []
    for op in table:
        rate = rates.get(op.source)
        if op.source and rate is None:
            taken = nonzero.get(op.name, np.zeros(()))
            rate = int(taken.sum()) / (examples * timesteps * op.inputs)
        row = {"name": op.name, "kind": op.kind, "input": op.source or "real numbers"}
        row |= {"input_rate": rate, "flops": op.flops * timesteps + op.attends}
        binary = op.source is not None and op.levels == 1
        row["paper_macs"] = 0 if binary else op.total(timesteps)
        row["paper_acs"] = op.total(timesteps) * rate if binary else 0.0
        row["exact_macs"] = op.attends * examples
        row["exact_acs"] = (products or {}).get(op.name, 0)
        if op.fan_out is not None:
            there = amount[op.name] if op.source and op.levels > 1 else nonzero[op.name]
            # Python integers: one layer of ResNet-19 on events passes 2^31 in a single example.
            driven = sum(map(int, (there * op.fan_out).ravel()))
            row["exact_acs" if op.source and op.levels else "exact_macs"] = driven
        rows.append(row)

    def energy(macs, acs):
        return (macs * mac_pj + acs * ac_pj) * 1e-6

    macs, acs = (sum(row[key] for row in rows) for key in ("paper_macs", "paper_acs"))
    dense = sum(op.total(1) for op in table)
    paper = {
        "macs": macs, "acs": acs, "flops": sum(row["flops"] for row in rows),
        "energy_uj": energy(macs, acs),
        "ac_eligible": sum(
            op.total(timesteps) for op in table if op.source and op.levels == 1
        ),
        "dense_macs": dense, "dense_energy_uj": energy(dense, 0),
    }  # fmt: skip
    all_macs, all_acs = (sum(row[key] for row in rows) for key in ("exact_macs", "exact_acs"))
    for row in rows:
        for key in ("exact_macs", "exact_acs"):
            row[key] /= examples
        row["paper_energy_uj"] = energy(row["paper_macs"], row["paper_acs"])
        row["exact_energy_uj"] = energy(row["exact_macs"], row["exact_acs"])
    macs, acs, dense = all_macs / examples, all_acs / examples, sum(op.dense for op in table)
    exact = {
        "macs": macs, "acs": acs, "energy_uj": energy(macs, acs),
        "all_macs": all_macs, "all_acs": all_acs,
        "neuron_updates": timesteps * sum(neurons.values()),
        "dense_macs": dense, "dense_energy_uj": energy(dense, 0),
    }  # fmt: skip
    fired = sum(int(values.sum()) for values in spikes.values())
    return {
        "mac_pj": mac_pj, "ac_pj": ac_pj, "paper": paper, "exact": exact,
        "activation_sparsity": 1 - fired / (examples * timesteps * sum(neurons.values())),
        "footprint_bytes": parameters, "layers": rows,
    }  # fmt: skip

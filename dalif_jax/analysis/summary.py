"""What a network is made of: its layer table, and the fan-out of every neuron, by tracing it."""

import contextlib
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dalif_jax.networks import AveragePool, GlobalAverage, MaxPool, layer_kind
from dalif_jax.networks.parts import pool_windows


class Layer(NamedTuple):
    name: str  # path inside the network, as in its parameters
    kind: str
    shape: tuple[int, ...]  # output, without batch: (T, H, W, C)
    parameters: int


class NeuronLayer(NamedTuple):
    neurons: int  # H W C
    fan_out: np.ndarray  # int64 [H, W]: synapses one spike drives, the same for all channels


@contextlib.contextmanager
def watching(interceptor):
    """Intercept each call of a module's method once.

    A subclass that extends a layer calls the layer's method through `super()`. Flax intercepts both
    calls, with the same module. Only the outer call is passed to the interceptor.

    Args:
      interceptor: (call, args, kwargs, context) -> output, see flax.linen.intercept_methods.
    """
    # Without asserts (python -O), Flax does not remove an interceptor at the end of its context.
    inside, running = True, []

    def watch(call, args, kwargs, context):
        method = context.module, context.method_name
        if not inside or any(m is method[0] and n == method[1] for m, n in running):
            return call(*args, **kwargs)
        running.append(method)
        try:
            return interceptor(call, args, kwargs, context)
        finally:
            running.pop()

    try:
        with nn.intercept_methods(watch):
            yield
    finally:
        inside = False


def layers(model, shape):
    """Every layer of `model` on one input of `shape` (T, H, W, C), in the order it runs.

    Nothing is computed: shapes only. Returns a list of Layer.
    """
    rows = []

    def record(call, args, kwargs, context):
        out = call(*args, **kwargs)
        module = context.module
        if context.method_name == "__call__" and layer_kind(module):
            rows.append((module.path, type(module).__name__, out.shape[1:]))
        return out

    with watching(record):
        variables = jax.eval_shape(
            lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False)
        )

    def parameters(path):
        tree = variables["params"]
        for key in path:
            tree = tree.get(key, {})
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    return [Layer("/".join(path), kind, out, parameters(path)) for path, kind, out in rows]


def table(rows):
    """The list of Layer as text, one line each, closing with `parameters: N`."""
    cells = [("layer", "kind", "output T x H x W x C", "parameters")]
    cells += [
        (row.name, row.kind, " x ".join(map(str, row.shape)), f"{row.parameters:,}") for row in rows
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(4)]
    lines = [
        f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}"
        for a, b, c, d in cells
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join([*lines, "", f"parameters: {sum(row.parameters for row in rows)}"])


def neuron_layers(model, shape):
    """Every neuron layer's size, and how many synapses one spike of it drives.

    A synapse is one weight of a convolution or linear layer at one of its output positions; borders
    and strides are counted as they are, pooling is passed through (a spike drives the synapses of
    each window it lies in), as are sums and products of spikes and attention; a shortcut without
    weights drives none.

    Args:
      shape: (T, H, W, C) of the input; T does not matter.
    Returns:
      {name: NeuronLayer}, in order of depth.
    """
    shape = (1, *shape[1:])
    neurons = {row.name: row.shape for row in layers(model, shape) if row.kind == "SpikingNeuron"}
    x = jnp.zeros((1, *shape))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
    # Weights of 1 and the derivative with respect to each spike: what one spike adds up to.
    ones = jax.tree_util.tree_map_with_path(
        lambda path, v: jnp.full(v.shape, float(path[-1].key == "kernel"), v.dtype), variables
    )

    def synapses(spikes, weights):
        total = 0.0

        def probe(call, args, kwargs, context):
            nonlocal total
            module = context.module
            kind = layer_kind(module)
            if context.method_name != "__call__" or kind is None:
                return call(*args, **kwargs)
            if kind == "neuron":
                return spikes["/".join(module.path)]
            if kind == "attention":  # it scales what passes
                return args[0]
            if kind == "join":
                return args[0] + args[1]
            if isinstance(module, MaxPool):
                # A spike alone passes to each window. A module here would be intercepted again.
                return pool_windows(module, nn.avg_pool, args[0]) * module.window**2
            out = call(*args, **kwargs)
            if isinstance(module, AveragePool):
                return out * module.window**2
            if isinstance(module, GlobalAverage):
                return out * np.prod(args[0].shape[2:4])
            if kind in ("conv", "linear"):
                total = total + out.astype(jnp.float32).sum()
            return jnp.zeros_like(out)

        with watching(probe):
            model.apply(weights, x, train=False)
        return total

    inputs = {name: jnp.zeros((1, *out)) for name, out in neurons.items()}
    # Weights are an argument: XLA:CPU of jaxlib 0.12.0.1 multiplies wrongly by a constant matrix
    # whose values are all equal, after max pooling.
    counts = jax.jit(jax.grad(synapses))(inputs, ones)
    return {
        name: NeuronLayer(
            int(np.prod(out[1:])),
            np.rint(np.asarray(counts[name])[0, 0, ..., 0]).astype(np.int64),
        )
        for name, out in neurons.items()
    }

"""Running a NIR graph over time with forward Euler: what `interchange` reads, as a function."""

import jax
import jax.numpy as jnp
import numpy as np

from dalif_jax.neurons.linear import State, reset
from dalif_jax.surrogates import spike

DT = 1e-4  # seconds, the step that snnTorch and others assume when they read a graph


class NotRepresentable(ValueError):
    """A network, or a graph, holds something that the other side has no form for."""


def run(graph, x, dt=None):
    """Run a NIR graph: the importer, as a function.

    Args:
      graph: a nir.NIRGraph of Conv2d, Linear, Affine, LIF, SumPool2d, AvgPool2d, Flatten, one Input
        and Output, without cycles.
      x: [B, T, C, H, W] or [B, T, features]; computed in its dtype, integers in float32 (float64
        where that is switched on).
      dt: seconds of a timestep; None: the graph's own, `dt` of its metadata, else DT.
    Returns:
      {node: [B, T, ...]}, what every node gives; "output" is the graph's.
    Raises:
      NotRepresentable: another node, a cycle, an edge twice or to no node, shapes that do not fit,
        v_leak or v_reset that is not 0.
    """
    if dt is None:
        dt = graph.metadata.get("dt", DT)
    try:
        dt = float(np.asarray(dt).item())
    except (TypeError, ValueError):
        raise NotRepresentable(f"the graph's dt={dt!r} is no number of seconds") from None
    if not 0 < dt < np.inf:
        raise NotRepresentable(f"dt={dt} is no time: seconds above 0")
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        x = x.astype(jnp.result_type(float))
    nodes, values = graph.nodes, {}
    sources = _sources(graph)
    waiting = list(nodes)
    while waiting:
        ready = [name for name in waiting if all(source in values for source in sources[name])]
        if not ready:
            raise NotRepresentable(f"the graph has a cycle through {', '.join(waiting[:3])}")
        for name in ready:
            taken = _summed(name, [values[source] for source in sources[name]]) or [x]
            try:
                values[name] = _apply(name, nodes[name], taken[0], dt)
            except NotRepresentable:
                raise
            except (TypeError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise NotRepresentable(
                    f"{name}: {type(nodes[name]).__name__} does not take {taken[0].shape[2:]}: "
                    f"{reason}"
                ) from error
            waiting.remove(name)
    return values


def _sources(graph):
    """{node: the nodes it takes from}, after checking the edges."""
    sources = {name: [] for name in graph.nodes}
    for a, b in graph.edges:
        for name in (a, b):
            if name not in sources:
                raise NotRepresentable(f"the edge from {a} to {b}: there is no node {name}")
        if a in sources[b]:
            raise NotRepresentable(f"the edge from {a} to {b} is there twice")
        sources[b].append(a)
    first = [name for name, node in graph.nodes.items() if type(node).__name__ == "Input"]
    if len(first) != 1:
        raise NotRepresentable(f"the graph has {len(first)} inputs, one is read")
    for name, taken in sources.items():
        if not taken and name not in first:
            raise NotRepresentable(f"{name}: nothing leads to it")
    return sources


def _summed(name, values):
    """[the sum of what a node takes], or []."""
    shapes = {value.shape for value in values}
    if len(shapes) > 1:
        shown = " and ".join(str(shape[2:]) for shape in sorted(shapes))
        raise NotRepresentable(f"{name}: takes {shown}, which do not add up")
    return [sum(values[1:], values[0])] if values else []


def _apply(name, node, x, dt):
    kind = type(node).__name__
    if kind not in NODES:
        raise NotRepresentable(f"{name}: {kind} is not read")
    return NODES[kind](name, node, x, dt)


def _same(name, node, x, dt):
    return x


def _input(name, node, x, dt):
    shape = node.input_type["input"]
    if shape is not None and tuple(map(int, np.ravel(shape))) != x.shape[2:]:
        raise NotRepresentable(f"{name}: takes {tuple(map(int, shape))}, was given {x.shape[2:]}")
    return x


def _over_steps(function):
    """A node without memory: its function on [B * T, ...]."""

    def apply(name, node, x, dt):
        y = function(name, node, x.reshape(-1, *x.shape[2:]))
        return y.reshape(*x.shape[:2], *y.shape[1:])

    return apply


def _lif(name, node, x, dt):
    for key in ("v_leak", "v_reset"):
        value = getattr(node, key, None)  # files of older versions have no v_reset: it is 0
        if value is not None and np.any(value):
            raise NotRepresentable(f"{name}: {key} is not 0")
    tau = np.asarray(node.tau, np.float64)
    if not (tau > 0).all():
        raise NotRepresentable(f"{name}: tau is not above 0")
    rate = dt / tau
    beta, alpha, threshold = (
        jnp.asarray(value, x.dtype) for value in (1 - rate, rate * node.r, node.v_threshold)
    )
    shape = jnp.broadcast_shapes(x.shape[2:], beta.shape)
    if shape != x.shape[2:]:
        raise NotRepresentable(f"{name}: {beta.shape} neurons take {x.shape[2:]} currents")

    def step(state, current):
        h = beta * reset(state) + alpha * current
        fired = spike(h - threshold, "rectangle", 1.0)
        return State(h, fired), fired

    zeros = jnp.zeros((x.shape[0], *x.shape[2:]), x.dtype)
    spikes = jax.lax.scan(step, State(zeros, zeros), jnp.moveaxis(x, 1, 0))[1]
    return jnp.moveaxis(spikes, 0, 1)


def _pair(value):
    return tuple(map(int, np.broadcast_to(value, 2)))


def _conv2d(name, node, x):
    stride, dilation = _pair(node.stride), _pair(node.dilation)
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise NotRepresentable(f"{name}: padding {padding!r} is not read")
        if padding == "same" and stride != (1, 1):
            raise NotRepresentable(f"{name}: padding 'same' is defined for a stride of 1 alone")
        # PyTorch's: what is odd goes to the end.
        reach = [d * (k - 1) for d, k in zip(dilation, node.weight.shape[2:], strict=True)]
        pads = [(n // 2, n - n // 2) if padding == "same" else (0, 0) for n in reach]
    else:
        pads = [(pad,) * 2 for pad in _pair(padding)]
    y = jax.lax.conv_general_dilated(
        x, jnp.asarray(node.weight, x.dtype), stride, pads,
        rhs_dilation=dilation, feature_group_count=int(node.groups),
    )  # fmt: skip
    return _biased(y, node, (1, 1))


def _biased(y, node, after=()):
    bias = getattr(node, "bias", None)
    if bias is None:
        return y
    return y + jnp.asarray(bias, y.dtype).reshape(-1, *after)


def _linear(name, node, x):
    if np.ndim(node.weight) != 2:
        raise NotRepresentable(f"{name}: weights of {np.ndim(node.weight)} axes are not read")
    return _biased(x @ jnp.asarray(node.weight, x.dtype).T, node)


def _pool(name, node, x):
    window, stride, pad = _pair(node.kernel_size), _pair(node.stride), _pair(node.padding)
    y = jax.lax.reduce_window(
        x, jnp.zeros((), x.dtype), jax.lax.add, (1, 1, *window), (1, 1, *stride),
        ((0, 0), (0, 0), *((p, p) for p in pad)),
    )  # fmt: skip
    return y if type(node).__name__ == "SumPool2d" else y / np.prod(window)


def _flatten(name, node, x):
    """Axes start_dim to end_dim, counted as NIR does: without batch and time."""
    axes, shape = x.ndim - 1, x.shape[1:]
    start, end = (int(d) + axes if d < 0 else int(d) for d in (node.start_dim, node.end_dim))
    if not 0 <= start <= end < axes:
        raise NotRepresentable(
            f"{name}: axes {node.start_dim} to {node.end_dim} of an input of {axes} axes"
        )
    return x.reshape(-1, *shape[:start], int(np.prod(shape[start : end + 1])), *shape[end + 1 :])


NODES = {
    "Input": _input, "Output": _same, "LIF": _lif, "Conv2d": _over_steps(_conv2d),
    "SumPool2d": _over_steps(_pool), "AvgPool2d": _over_steps(_pool),
    "Linear": _over_steps(_linear), "Affine": _over_steps(_linear),
    "Flatten": _over_steps(_flatten),
}  # fmt: skip

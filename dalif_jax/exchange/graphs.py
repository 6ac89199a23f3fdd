"""Running a NIR graph over time with forward Euler: what `interchange` reads, as a function."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from dalif_jax.neurons.linear import State, reset
from dalif_jax.surrogates import spike

DT = 1e-4  # seconds, the step that snnTorch and others assume when they read a graph
MAX_NODES, MAX_EDGES = 10_000, 100_000
MAX_BYTES = 2**33  # of what all nodes give together, and of one padded input


class NotRepresentable(ValueError):
    """A network, or a graph, holds something that the other side has no form for."""


def run(graph, x, dt=None):
    """Run a NIR graph: the importer, as a function.

    Args:
      graph: a nir.NIRGraph of Conv2d, Linear, Affine, LIF, SumPool2d, AvgPool2d, Flatten, one Input
        and one Output, whatever their names, without cycles.
      x: [B, T, C, H, W] or [B, T, features]; computed in its dtype, integers in float32 (float64
        where that is switched on).
      dt: seconds of a timestep; None: the graph's own, `dt` of its metadata, else DT.
    Returns:
      {node: [B, T, ...]}, what every node gives; "output" is the graph's, also where its Output
      node has another name.
    Raises:
      NotRepresentable: another node, a cycle, an edge twice or to no node, no or several inputs or
        outputs, shapes that do not fit, v_leak or v_reset that is not 0, values that are malformed,
        or results of more than MAX_BYTES.
    """
    if dt is None:
        dt = (getattr(graph, "metadata", None) or {}).get("dt", DT)
    try:
        dt = float(np.asarray(dt).item())
    except (TypeError, ValueError):
        raise NotRepresentable(f"the graph's dt={dt!r:.80} is no number of seconds") from None
    if not 0 < dt < np.inf:
        raise NotRepresentable(f"dt={dt} is no time: seconds above 0")
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        x = x.astype(jnp.result_type(float))
    sources, output = _sources(graph)
    values, total = {}, 0
    for name in _in_order(sources):
        (taken,) = _summed(name, [values[source] for source in sources[name]]) or [x]
        values[name] = _checked_apply(name, graph.nodes[name], taken, dt, MAX_BYTES - total)
        total += values[name].nbytes
    return values | {"output": values[output]}


def _checked_apply(name, node, x, dt, room):
    """`_apply`, once the shape of its result is known and takes at most `room` bytes."""
    try:
        result = jax.eval_shape(lambda: _apply(name, node, x, dt))
        if result.size * result.dtype.itemsize > room:
            raise NotRepresentable(
                f"{name}: a result of shape {result.shape}; all nodes together may take "
                f"{MAX_BYTES:,} bytes"
            )
        return _apply(name, node, x, dt)
    except NotRepresentable:
        raise
    except Exception as error:  # of many kinds: nothing has checked what a node's values are
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise NotRepresentable(
            f"{name}: {type(node).__name__} does not take {x.shape[2:]}: {reason}"
        ) from error


def _in_order(sources):
    """Nodes so that each comes after those it takes from. Raises NotRepresentable for a cycle."""
    missing = {name: len(taken) for name, taken in sources.items()}
    behind = {name: [] for name in sources}
    for name, taken in sources.items():
        for source in taken:
            behind[source].append(name)
    ready = [name for name, count in missing.items() if not count]
    for name in ready:  # grows while it is walked through
        for after in behind[name]:
            missing[after] -= 1
            if not missing[after]:
                ready.append(after)
    if len(ready) < len(sources):
        waiting = [name for name, count in missing.items() if count]
        raise NotRepresentable(f"the graph has a cycle through {', '.join(waiting[:3])}")
    return ready


def _sources(graph):
    """({node: the nodes it takes from}, the output node), after checking nodes and edges."""
    if len(graph.nodes) > MAX_NODES or len(graph.edges) > MAX_EDGES:
        raise NotRepresentable(
            f"the graph has {len(graph.nodes):,} nodes and {len(graph.edges):,} edges; at most "
            f"{MAX_NODES:,} and {MAX_EDGES:,} are read"
        )
    sources, seen = {name: [] for name in graph.nodes}, set()
    for edge in graph.edges:
        try:
            a, b = edge
            known = [name in sources for name in (a, b)]
        except (TypeError, ValueError):
            raise NotRepresentable(f"the edge {edge!r:.80} is no pair of nodes") from None
        for name, there in zip((a, b), known, strict=True):
            if not there:
                raise NotRepresentable(f"the edge from {a} to {b}: there is no node {name}")
        if (a, b) in seen:
            raise NotRepresentable(f"the edge from {a} to {b} is there twice")
        seen.add((a, b))
        sources[b].append(a)
    first, last = (
        [name for name, node in graph.nodes.items() if type(node).__name__ == kind]
        for kind in ("Input", "Output")
    )
    if len(first) != 1:
        raise NotRepresentable(f"the graph has {len(first)} inputs, one is read")
    if len(last) != 1:
        names = f": {', '.join(map(str, last[:3]))}" if last else ""
        raise NotRepresentable(f"the graph has {len(last)} outputs, one is read{names}")
    for name, taken in sources.items():
        if not taken and name not in first:
            raise NotRepresentable(f"{name}: nothing leads to it")
        if taken and name in first:
            raise NotRepresentable(f"{name}: an edge leads to the input, a cycle or a second input")
    if "output" in sources and last != ["output"]:
        raise NotRepresentable(
            f"output: the node of this name is not the graph's output, which is {last[0]}"
        )
    return sources, last[0]


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
    shape = node.input_type.get("input") if isinstance(node.input_type, dict) else None
    if shape is not None and tuple(map(int, np.ravel(shape))) != x.shape[2:]:
        raise NotRepresentable(
            f"{name}: takes {tuple(map(int, np.ravel(shape)))}, was given {x.shape[2:]}"
        )
    return x


def _over_steps(function):
    """A node without memory: its function on [B * T, ...]."""

    def apply(name, node, x, dt):
        y = function(name, node, x.reshape(-1, *x.shape[2:]))
        return y.reshape(*x.shape[:2], *y.shape[1:])

    return apply


def _lif(name, node, x, dt):
    for key in ("tau", "r", "v_threshold", "v_leak", "v_reset"):
        value = getattr(node, key, None)  # files of older versions have no v_reset: it is 0
        if value is None:
            continue
        # Before they are combined: shapes such as (n, 1) and (1, n) would make n^2 values.
        _check_neurons(name, np.shape(value), x.shape[2:])
        if not np.isfinite(np.asarray(value, np.float64)).all() and key != "v_threshold":
            raise NotRepresentable(f"{name}: {key} is not finite")
        if key in ("v_leak", "v_reset") and np.any(value):
            raise NotRepresentable(f"{name}: {key} is not 0")
    if np.isnan(np.asarray(node.v_threshold, np.float64)).any():
        raise NotRepresentable(f"{name}: v_threshold is not a number")
    tau = np.asarray(node.tau, np.float64)
    if not (tau > 0).all():
        raise NotRepresentable(f"{name}: tau is not above 0")
    rate = dt / tau
    beta, alpha, threshold = (
        jnp.asarray(value, x.dtype) for value in (1 - rate, rate * node.r, node.v_threshold)
    )

    def step(state, current):
        h = beta * reset(state) + alpha * current
        fired = spike(h - threshold, "rectangle", 1.0)
        return State(h, fired), fired

    zeros = jnp.zeros((x.shape[0], *x.shape[2:]), x.dtype)
    spikes = jax.lax.scan(step, State(zeros, zeros), jnp.moveaxis(x, 1, 0))[1]
    return jnp.moveaxis(spikes, 0, 1)


def _check_neurons(name, shape, currents):
    try:
        right = np.broadcast_shapes(shape, currents) == currents
    except ValueError:
        right = False
    if not right:
        raise NotRepresentable(f"{name}: LIF does not take {currents}: it has {shape} neurons")


def _pair(value, low, name, key):
    """Two integers from `low` on, of one value or of two."""
    pair = np.asarray(value).ravel()
    if pair.size not in (1, 2) or pair.dtype.kind not in "iu" or (pair < low).any():
        raise NotRepresentable(f"{name}: {key}={value!r:.60}; one or two integers from {low}")
    return tuple(map(int, np.broadcast_to(pair, 2)))


def _check_padded(name, x, pads):
    """Refuse padding that a small file could exhaust memory with."""
    size = math.prod(n + sum(pad) for n, pad in zip(x.shape[2:], pads, strict=True))
    if math.prod(x.shape[:2]) * size * x.dtype.itemsize > MAX_BYTES:
        raise NotRepresentable(f"{name}: its padding {pads} takes more than {MAX_BYTES:,} bytes")


def _conv2d(name, node, x):
    stride = _pair(node.stride, 1, name, "stride")
    dilation = _pair(node.dilation, 1, name, "dilation")
    groups = int(node.groups)
    if groups < 1:
        raise NotRepresentable(f"{name}: groups={groups}; an integer from 1")
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
        pads = [(pad,) * 2 for pad in _pair(padding, 0, name, "padding")]
    if x.ndim != 4 or np.ndim(node.weight) != 4:
        raise NotRepresentable(
            f"{name}: Conv2d does not take {x.shape[1:]} with weights {np.shape(node.weight)}"
        )
    _check_padded(name, x, pads)
    y = jax.lax.conv_general_dilated(
        x, jnp.asarray(node.weight, x.dtype), stride, pads,
        rhs_dilation=dilation, feature_group_count=groups,
    )  # fmt: skip
    return _biased(name, y, node, 1)


def _biased(name, y, node, axis):
    """A result plus the node's bias along an axis, where it has one."""
    bias = getattr(node, "bias", None)
    if bias is None:
        return y
    if np.size(bias) not in (1, y.shape[axis]):  # anything else would be broadcast
        raise NotRepresentable(f"{name}: {np.size(bias)} biases for {y.shape[axis]} outputs")
    after = (1,) * (y.ndim - 1 - axis % y.ndim)
    return y + jnp.asarray(bias, y.dtype).reshape(-1, *after)


def _linear(name, node, x):
    if np.ndim(node.weight) != 2:
        raise NotRepresentable(f"{name}: weights of {np.ndim(node.weight)} axes are not read")
    return _biased(name, x @ jnp.asarray(node.weight, x.dtype).T, node, -1)


def _pool(name, node, x):
    window = _pair(node.kernel_size, 1, name, "kernel_size")
    stride = _pair(node.stride, 1, name, "stride")
    pad = _pair(node.padding, 0, name, "padding")
    if x.ndim != 4:
        raise NotRepresentable(f"{name}: {type(node).__name__} does not take {x.shape[1:]}")
    for n, w, p in zip(x.shape[2:], window, pad, strict=True):
        # Windows far beyond the map would take endless time for a few results.
        if p > min(n, w // 2) or w > n + 2 * p:
            raise NotRepresentable(
                f"{name}: kernel_size {w} with padding {p} of a map of {n}; the padding may be "
                "half the kernel and as large as the map, the kernel as large as the padded map"
            )
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

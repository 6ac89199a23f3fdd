"""Functions of time whose backward pass keeps their inputs alone and computes the rest again.

jax.checkpoint says the same, but leaves the compiler free to compute again long before the gradient
arrives, which XLA:CPU does for all layers at once: it then keeps them after all. Here what is
computed again takes its inputs from behind the gradient.
"""

import jax
import jax.numpy as jnp
from jax import lax


def keeping_inputs(function):
    """`function` of pytrees of float arrays, whose backward pass runs it again.

    Values and gradients are those of `function`, whose first output has examples as first axis.
    """

    @jax.custom_vjp
    def run(*inputs):
        return function(*inputs)

    def forward(*inputs):
        return function(*inputs), inputs

    def backward(inputs, gradient):
        return jax.vjp(function, *_behind(gradient, inputs))[1](gradient)

    run.defvjp(forward, backward)
    return run


def in_chunks(function, length):
    """Run a function of a few timesteps over all of them, with its inputs alone kept for gradients.

    The compiled program has the timesteps of one chunk, so its size does not grow with T. The
    backward pass first runs forward again to the state at each chunk's start, then goes through the
    chunks from the last to the first and computes what is inside each of them again.

    Args:
      function: (shared, state, timed, x) -> (state, y) on K consecutive timesteps: x and the leaves
        of y are [B, K, ...], leaves of `timed` [K, ...], `shared` has no time axis.
      length: timesteps of a chunk; a shorter one follows where it does not divide T.
    Returns:
      (shared, state, timed, x) -> y of all T timesteps. `state` is the one before the first.
    """

    @jax.custom_vjp
    def run(*inputs):
        return run_chunks(function, length, *inputs)

    def forward(*inputs):
        return run(*inputs), inputs

    def backward(inputs, gradient):
        return pull_chunks(function, pull, length, inputs, gradient)

    def pull(inputs, gradients):
        shared, state, timed, x = inputs

        def floating(shared, floats, timed, x):
            state_, y = function(shared, _with_floats(state, floats), timed, x)
            return _floats(state_), y

        return jax.vjp(floating, shared, _floats(state), timed, x)[1](gradients)

    run.defvjp(forward, backward)
    return run


def run_chunks(function, length, shared, state, timed, x):
    """y of all timesteps, see `in_chunks`."""
    count, rest = divmod(x.shape[1], length)

    def chunk(state, start, length):
        part = _cut(timed, start, length, 0), _cut(x, start, length, 1)
        return function(shared, state, *part)

    def body(carry, i):
        state, y = carry
        state, part = chunk(state, i * length, length)
        return (state, _put(y, part, i * length, 1)), None

    part = jax.eval_shape(lambda state: chunk(state, 0, length)[1], state)
    y = jax.tree.map(lambda leaf: _empty(leaf, x), part)
    (state, y), _ = lax.scan(body, (state, y), jnp.arange(count))
    if rest:
        y = _put(y, chunk(state, count * length, rest)[1], count * length, 1)
    return y


def pull_chunks(function, pull, length, inputs, gradient):
    """Gradients of all inputs of `run_chunks` from that of y.

    `pull` is (inputs of a chunk, (gradients of its state's floats, of y)) -> gradients of shared,
    of the state's floats, of timed and x. A state may hold integers; they have none.
    """
    shared, state, timed, x = inputs
    # Only the state waits for the gradient: every chunk depends on the one before.
    (state,) = _behind(gradient, (state,))
    count, rest = divmod(x.shape[1], length)

    def part(state, start, length):
        return shared, state, _cut(timed, start, length, 0), _cut(x, start, length, 1)

    def chunk(carry, state, start, length):
        g_shared, g_floats, g_timed, g_x = carry
        given = g_floats, _cut(gradient, start, length, 1)
        new_shared, g_floats, new_timed, new_x = pull(part(state, start, length), given)
        g_shared = jax.tree.map(jnp.add, g_shared, new_shared)
        return g_shared, g_floats, _put(g_timed, new_timed, start, 0), _put(g_x, new_x, start, 1)

    def forward(state, i):
        return function(*part(state, i * length, length))[0], state

    def backward(carry, at):
        state, i = at
        return chunk(carry, state, i * length, length), None

    last, starts = lax.scan(forward, state, jnp.arange(count))
    carry = jax.tree.map(jnp.zeros_like, (shared, _floats(state), timed, x))
    if rest:
        carry = chunk(carry, last, count * length, rest)
    at = starts, jnp.arange(count)
    (g_shared, g_floats, g_timed, g_x), _ = lax.scan(backward, carry, at, reverse=True)
    return g_shared, _with_floats(state, g_floats), g_timed, g_x


def _is_float(leaf):
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _floats(tree):
    """The leaves that have gradients, as a list."""
    return [leaf for leaf in jax.tree.leaves(tree) if _is_float(leaf)]


def _with_floats(tree, floats):
    """The tree with the leaves of `_floats` replaced."""
    floats = iter(floats)
    return jax.tree.map(lambda leaf: next(floats) if _is_float(leaf) else leaf, tree)


def _cut(tree, start, length, axis):
    """`length` timesteps from `start` on of arrays with time as their axis `axis`."""
    return jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, start, length, axis), tree)


def _put(tree, part, start, axis):
    """The arrays with `part` written into them from timestep `start` on."""
    return jax.tree.map(
        lambda whole, new: lax.dynamic_update_slice_in_dim(whole, new, start, axis), tree, part
    )


def _empty(chunk, x):
    """Zeros for all timesteps of an output with the shape of one chunk's, sharded as x."""
    shape = (chunk.shape[0], x.shape[1], *chunk.shape[2:])
    if shape == x.shape:
        return jnp.zeros_like(x, chunk.dtype)
    return axes_of(x, jnp.zeros(shape, chunk.dtype))


def axes_of(x, tree):
    """The arrays, marked as varying over the mesh axes over which x varies inside jax.shard_map.

    A custom gradient and a scan need that of all their inputs; the gradient of what was the same on
    all devices is then summed over them, as jax.shard_map does elsewhere.
    """
    wanted = _varying(x)

    def mark(leaf):
        missing = tuple(sorted(wanted - _varying(leaf)))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(mark, tree)


def _varying(x):
    """Names of the mesh axes over which an array varies; none outside jax.shard_map."""
    kind = jax.typeof(x)
    return kind.mat.varying if hasattr(kind, "mat") else kind.vma


def _behind(gradient, inputs):
    """The inputs, those with the gradient's first axis such that they cannot be had before it:
    divided by a 1 made of it, each example by one of its own, so that nothing travels where that
    axis is sharded. (A barrier says the same, and XLA:CPU takes it out before it orders its
    operations.)"""
    first = jax.tree.leaves(gradient)[0]
    first = first[(slice(None), *[0] * (first.ndim - 1))]
    one = jnp.where(first == first, 1.0, 1.0 + first)

    def later(leaf):
        if jnp.ndim(leaf) < 2 or leaf.shape[0] != one.size or not _is_float(leaf):
            return leaf
        return leaf / one.reshape(-1, *[1] * (leaf.ndim - 1)).astype(leaf.dtype)

    return jax.tree.map(later, inputs)

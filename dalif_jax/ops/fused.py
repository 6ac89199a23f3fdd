"""The neuron over all timesteps in one forward and one backward pass that keep only its input.

Autodiff through the scan of `neurons.run` keeps several arrays a timestep. Here the backward pass
computes the membranes again from x while it runs, so x, which the layer before holds anyway, is all
that is kept; the least that must move is x and spikes forward, x and two gradients backward.

Up to 8 timesteps are written out, so that the compiler fuses them; on a GPU a Pallas kernel
(`kernel.py`) can replace them. XLA:CPU gives each timestep of a stacked output its own copy of the
steps before it, quadratic in T, so there an operation that it does not duplicate cuts the outputs
off from what reads them (`_by_platform`). More timesteps run in chunks (`recompute.run_chunks`), so
the program and its compile time do not grow with T.

`neurons.run` is the reference; membrane norms, streaming and membrane traces use it.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dalif_jax.ops import kernel, scaled
from dalif_jax.ops.recompute import axes_of, pull_chunks, run_chunks
from dalif_jax.ops.scaled import with_rank
from dalif_jax.surrogates import SURROGATES

# Up to this many timesteps are written out, more run in chunks, so that compile time does not grow
# with T. Chunks of 4 took the least time of 4, 5, 8, 10 and 16 at T = 16 and 100.
ONE_CHUNK_UP_TO = 8
CHUNK = 4


def spikes(alpha, beta, x, threshold, surrogate, width, detach, mesh=None):
    """Spikes of a neuron layer from u = 0, as `neurons.run` gives them.

    Args:
      alpha, beta: decays, scalars or [C], at least float32.
      x: [B, T, ..., C]; membranes are computed in at least float32.
      threshold, surrogate, width, detach: as in neurons.Options.
      mesh: where given, NVIDIA GPUs run the Pallas kernel on it, with x sharded over its axis
        `data`; not in float64, nor for a batch that does not divide over it.
    Returns:
      [B, T, ..., C] in x's dtype, 1 where the membrane reached the threshold.
    """
    decays = axes_of(x, _like(x, alpha, beta))
    return _spikes(*decays, x, threshold, surrogate, width, detach, mesh)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5, 6, 7))
def _spikes(alpha, beta, x, threshold, surrogate, width, detach, mesh):
    def chunk(platform, decays, u, _, x):
        u, fired = _fire(*decays, u, _steps(x), threshold)
        return u, platform.cut(jnp.stack([s.astype(u.dtype) for s in fired], 1)).astype(x.dtype)

    def form(alpha, beta, x, platform):
        run = functools.partial(chunk, platform)
        if x.shape[1] <= ONE_CHUNK_UP_TO:
            return run((alpha, beta), None, (), x)[1]
        run = functools.partial(chunk, PLAIN)
        return run_chunks(run, CHUNK, (alpha, beta), _no_membrane(x), (), x)

    own = functools.partial(kernel.forward, mesh, threshold=threshold)
    return _by_platform(form, _runs(mesh, x) and own, alpha, beta, x)


def _fire(alpha, beta, u, xs, threshold):
    """(u after the last step, whether each fired); u [B, ...] before the first step, None: 0."""
    h, fired = _membranes(alpha, beta, u, xs, threshold)
    return jnp.where(fired[-1], 0.0, h[-1]), fired


def _forward(alpha, beta, x, *options):
    return _spikes(alpha, beta, x, *options), (alpha, beta, x)


def _backward(threshold, surrogate, width, detach, mesh, residuals, gradient):
    alpha, beta, x = residuals
    derivative = SURROGATES[surrogate].derivative

    def chunk(platform, inputs, gradients):
        """Gradients of ((sums [C] for alpha, for beta), u, (), x) of a chunk from those of the u
        behind it, None: 0, and its spikes. u None: 0 before the first step."""
        (alpha, beta), u, _, x = inputs
        (g_u,), gradient = gradients
        xs = _steps(x)
        # The membranes h[t] again; u[t] = h[t] where the neuron did not fire.
        h, fired = _membranes(alpha, beta, u, xs, threshold)
        alpha, beta = (with_rank(decay, xs[0].ndim) for decay in (alpha, beta))
        gs = _steps(gradient)
        gxs = [None] * len(xs)
        # Sums over time of what the decays receive, per neuron: they ride on the same pass.
        g_alpha = g_beta = jnp.zeros_like(xs[0])
        for t in reversed(range(len(xs))):
            g_h = gs[t]
            if g_u is not None and not detach:
                g_h -= g_u * h[t]  # through the reset: du/ds = -h
            g_h *= derivative(h[t] - threshold, width)
            if g_u is not None:
                g_h += jnp.where(fired[t], 0.0, g_u)
            gxs[t] = alpha * g_h
            g_alpha += g_h * xs[t]
            if t or u is not None:
                g_beta += g_h * (jnp.where(fired[t - 1], 0.0, h[t - 1]) if t else u)
                g_u = beta * g_h
        if len(xs) == 1 and u is None:  # beta never enters
            sums = (*_sums(g_alpha), jnp.zeros(x.shape[-1], alpha.dtype))
        else:
            sums = platform.sums(g_alpha, g_beta)
        return sums, [g_u], (), platform.cut(jnp.stack(gxs, 1)).astype(x.dtype)

    def form(alpha, beta, x, gradient, platform):
        run = functools.partial(chunk, platform)
        if x.shape[1] <= ONE_CHUNK_UP_TO:
            sums, _, _, g_x = run(((alpha, beta), None, (), x), ((None,), gradient))
            return g_x, *sums

        def ahead(decays, u, _, x):
            return _fire(*decays, u, _steps(x), threshold)[0], ()

        each = tuple(jnp.broadcast_to(decay, x.shape[-1]) for decay in (alpha, beta))
        run, inputs = functools.partial(chunk, PLAIN), (each, _no_membrane(x), (), x)
        sums, _, _, g_x = pull_chunks(ahead, run, CHUNK, inputs, gradient)
        return g_x, *sums

    own = functools.partial(
        kernel.backward, mesh, threshold=threshold, surrogate=surrogate, width=width, detach=detach
    )
    g_x, *sums = _by_platform(form, _runs(mesh, x) and own, alpha, beta, x, gradient)
    return *_of_decays(sums, (alpha, beta)), g_x


_spikes.defvjp(_forward, _backward)


def scaled_spikes(
    alpha, beta, factor, shift, x, added, threshold, surrogate, width, detach, mesh=None
):
    """Spikes of a layer whose current is a norm's: factor x + shift, and `added`, or None.

    On NVIDIA GPUs one kernel reads x and `added` as they are, and rounds nothing in between;
    elsewhere the current is written out. Arguments as in `spikes`, factor and shift [C].
    """
    decays = _like(x, alpha, beta)
    given = axes_of(x, (*decays, factor, shift))
    return _scaled_spikes(*given, x, added, threshold, surrogate, width, detach, mesh)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7, 8, 9, 10))
def _scaled_spikes(alpha, beta, factor, shift, x, added, threshold, surrogate, width, detach, mesh):
    plain = functools.partial(_written_out, threshold, surrogate, width, detach)

    def own(alpha, beta, factor, shift, x, added):
        return kernel.forward(mesh, alpha, beta, x, threshold, **_told(factor, shift, added))

    cuda = {"cuda": own} if _runs(mesh, x) else {}
    return lax.platform_dependent(alpha, beta, factor, shift, x, added, default=plain, **cuda)


def _written_out(threshold, surrogate, width, detach, alpha, beta, factor, shift, x, added):
    y = scaled.current(x, factor, shift, added)
    return spikes(alpha, beta, y, threshold, surrogate, width, detach)


def _told(factor, shift, added):
    """What the kernels are told of the current."""
    return {"scale": (factor, shift), "added": () if added is None else (added,)}


def _scaled_forward(alpha, beta, factor, shift, x, added, *options):
    given = alpha, beta, factor, shift, x, added
    return _scaled_spikes(*given, *options), given


def _scaled_backward(threshold, surrogate, width, detach, mesh, given, gradient):
    def plain(gradient, *given):
        form = functools.partial(_written_out, threshold, surrogate, width, detach)
        return jax.vjp(form, *given)[1](gradient)

    def own(gradient, alpha, beta, factor, shift, x, added):
        g_current, *sums = kernel.backward(
            mesh, alpha, beta, x, gradient, threshold, surrogate, width, detach,
            **_told(factor, shift, added),
        )  # fmt: skip
        factor = with_rank(factor, x.ndim)
        g_x = (factor * g_current.astype(factor.dtype)).astype(x.dtype)
        g_added = None if added is None else g_current
        return *_of_decays(sums[:2], (alpha, beta)), *sums[2:], g_x, g_added

    cuda = {"cuda": own} if _runs(mesh, given[4]) else {}
    return lax.platform_dependent(gradient, *given, default=plain, **cuda)


_scaled_spikes.defvjp(_scaled_forward, _scaled_backward)


def _of_decays(sums, decays):
    """Gradients of decays, scalars or [C], from their sums [C]."""
    return (
        (total if jnp.ndim(decay) else total.sum()).astype(jnp.result_type(decay))
        for total, decay in zip(sums, decays, strict=True)
    )


def _runs(mesh, x):
    """Whether the kernel can run x on the mesh."""
    return mesh is not None and x.dtype != jnp.float64 and x.shape[0] % mesh.size == 0


def _like(x, alpha, beta):
    """The decays in the dtype of x's membranes."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return jnp.asarray(alpha, wide), jnp.asarray(beta, wide)


def _no_membrane(x):
    """u = 0 of [B, T, ...]: [B, ...], at least float32."""
    return jnp.zeros_like(x[:, 0], jnp.promote_types(x.dtype, jnp.float32))


def _steps(x):
    """[B, T, ...] -> T arrays [B, ...], at least float32."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return [x[:, t].astype(wide) for t in range(x.shape[1])]


def _membranes(alpha, beta, u, xs, threshold):
    """(h[t] as compared with the threshold, whether it fired), a list of each over t."""
    alpha, beta = (with_rank(decay, xs[0].ndim) for decay in (alpha, beta))
    h, fired = [], []
    for t, x in enumerate(xs):
        h.append(alpha * x if u is None else beta * u + alpha * x)
        fired.append(h[t] >= threshold)
        u = jnp.where(fired[t], 0.0, h[t])
    return h, fired


class _Platform(NamedTuple):
    """What differs by platform."""

    cut: Callable  # array -> array, where outputs are cut off from what reads them
    sums: Callable  # two [B, ..., C] -> their sums over all but the last axis, [C] each


def _sums(*arrays):
    return tuple(g.sum(tuple(range(g.ndim - 1))) for g in arrays)


PLAIN = _Platform(lambda u: u, _sums)


def _by_platform(form, cuda, alpha, *arrays):
    # Divided by a 1 that the compiler cannot know: exact, and no operation that it duplicates.
    def on_cpu(alpha, *arrays):
        one = jnp.where(alpha == alpha, 1.0, 0.0).astype(alpha.dtype)
        return form(alpha, *arrays, platform=_Platform(lambda u: u / one, _sums_as_one))

    def elsewhere(alpha, *arrays):
        return form(alpha, *arrays, platform=PLAIN)

    own = {"cuda": cuda} if cuda else {}
    return lax.platform_dependent(alpha, *arrays, cpu=on_cpu, default=elsewhere, **own)


def _sums_as_one(real, imaginary):
    """XLA:CPU fuses into one output at a time, and would run all steps again for each of the two
    and inside a plain sum: so both leave as one complex array, summed by a matrix product."""
    rows = lax.complex(real, imaginary).reshape(-1, real.shape[-1])
    total = (jnp.ones((1, rows.shape[0]), rows.dtype) @ rows)[0]
    return total.real, total.imag

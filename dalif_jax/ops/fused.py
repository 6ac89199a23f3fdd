"""The neuron over all timesteps in one forward and one backward pass that keep only its input.

Autodiff through the scan of `neurons.run` keeps several arrays a timestep. Here the backward pass
computes the membranes again from x while it runs, so x, which the layer before holds anyway, is all
that is kept; the least that must move is x and spikes forward, x and two gradients backward.

With the steps written out, the compiler fuses them; on a GPU a kernel of our own (`kernel.py`) can
take its place. XLA:CPU gives each timestep of a stacked output its own copy of the steps before it,
quadratic in T, so there every few steps are cut by an operation that it does not duplicate
(`_by_platform`).

`neurons.run` is the reference; membrane norms, streaming and membrane traces use it.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dalif_jax.ops import kernel, scaled
from dalif_jax.surrogates import SURROGATES

# Timesteps between cuts on CPU: of 2, 4, 6, 8, 16 the fastest at T = 8, 10 and 16 in float32.
CUT = 8


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5, 6, 7))
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
    decays = _like(x, alpha, beta)

    def form(alpha, beta, x, platform):
        _, fired = _membranes(alpha, beta, _steps(x), threshold, platform.cut)
        return platform.cut(jnp.stack([s.astype(alpha.dtype) for s in fired], 1)).astype(x.dtype)

    own = functools.partial(kernel.forward, mesh, threshold=threshold)
    return _by_platform(form, _runs(mesh, x) and own, *decays, x)


def _forward(alpha, beta, x, *options):
    return spikes(alpha, beta, x, *options), (alpha, beta, x)


def _backward(threshold, surrogate, width, detach, mesh, residuals, gradient):
    alpha, beta, x = residuals
    derivative = SURROGATES[surrogate].derivative

    def form(alpha, beta, x, gradient, platform):
        xs = _steps(x)
        # The membranes h[t] again; u[t] = h[t] where the neuron did not fire.
        h, fired = _membranes(alpha, beta, xs, threshold, platform.cut)
        gs = _steps(gradient)
        gxs = [None] * len(xs)
        # Sums over time of what the decays receive, per neuron: they ride on the same pass.
        g_alpha = g_beta = jnp.zeros_like(xs[0])
        g_u = None
        for t in reversed(range(len(xs))):
            g_h = gs[t]
            if g_u is not None and not detach:
                g_h -= g_u * h[t]  # through the reset: du/ds = -h
            g_h *= derivative(h[t] - threshold, width)
            if g_u is not None:
                g_h += jnp.where(fired[t], 0.0, g_u)
            gxs[t] = alpha * g_h
            g_alpha += g_h * xs[t]
            if t:
                g_beta += g_h * jnp.where(fired[t - 1], 0.0, h[t - 1])
                g_u = beta * g_h
                if t % CUT == 0:
                    g_u, g_alpha, g_beta = map(platform.cut, (g_u, g_alpha, g_beta))
        if len(xs) == 1:  # beta never enters
            sums = (*_sums(g_alpha), jnp.zeros(x.shape[-1], alpha.dtype))
        else:
            sums = platform.sums(g_alpha, g_beta)
        return platform.cut(jnp.stack(gxs, 1)).astype(x.dtype), *sums

    decays = _like(x, alpha, beta)
    own = functools.partial(
        kernel.backward, mesh, threshold=threshold, surrogate=surrogate, width=width, detach=detach
    )
    g_x, *sums = _by_platform(form, _runs(mesh, x) and own, *decays, x, gradient)
    return *_of_decays(sums, (alpha, beta)), g_x


spikes.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7, 8, 9, 10))
def scaled_spikes(
    alpha, beta, factor, shift, x, added, threshold, surrogate, width, detach, mesh=None
):
    """Spikes of a layer whose current is a norm's: factor x + shift, and `added`, or None.

    On NVIDIA GPUs one kernel reads x and `added` as they are, and rounds nothing in between;
    elsewhere the current is written out. Arguments as in `spikes`, factor and shift [C].
    """
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
    return scaled_spikes(*given, *options), given


def _scaled_backward(threshold, surrogate, width, detach, mesh, given, gradient):
    def plain(gradient, *given):
        form = functools.partial(_written_out, threshold, surrogate, width, detach)
        return jax.vjp(form, *given)[1](gradient)

    def own(gradient, alpha, beta, factor, shift, x, added):
        g_current, *sums = kernel.backward(
            mesh, alpha, beta, x, gradient, threshold, surrogate, width, detach,
            **_told(factor, shift, added),
        )  # fmt: skip
        g_x = (factor * g_current.astype(factor.dtype)).astype(x.dtype)
        g_added = None if added is None else g_current
        return *_of_decays(sums[:2], (alpha, beta)), *sums[2:], g_x, g_added

    cuda = {"cuda": own} if _runs(mesh, given[4]) else {}
    return lax.platform_dependent(gradient, *given, default=plain, **cuda)


scaled_spikes.defvjp(_scaled_forward, _scaled_backward)


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


def _steps(x):
    """[B, T, ...] -> T arrays [B, ...], at least float32."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return [x[:, t].astype(wide) for t in range(x.shape[1])]


def _membranes(alpha, beta, xs, threshold, cut):
    """(h[t] as compared with the threshold, whether it fired), a list of each over t."""
    h, fired, u = [], [], None
    for t, x in enumerate(xs):
        h.append(alpha * x if u is None else beta * u + alpha * x)
        fired.append(h[t] >= threshold)
        u = jnp.where(fired[t], 0.0, h[t])
        if (t + 1) % CUT == 0:
            u = cut(u)
    return h, fired


class _Platform(NamedTuple):
    """What differs by platform."""

    cut: Callable  # u -> u, where a chain of steps is to be cut
    sums: Callable  # two [B, ..., C] -> their sums over all but the last axis, [C] each


def _by_platform(form, cuda, alpha, *arrays):
    # Divided by a 1 that the compiler cannot know: exact, and no operation that it duplicates.
    def on_cpu(alpha, *arrays):
        one = jnp.where(alpha == alpha, 1.0, 0.0).astype(alpha.dtype)
        return form(alpha, *arrays, platform=_Platform(lambda u: u / one, _sums_as_one))

    def elsewhere(alpha, *arrays):
        return form(alpha, *arrays, platform=_Platform(lambda u: u, _sums))

    own = {"cuda": cuda} if cuda else {}
    return lax.platform_dependent(alpha, *arrays, cpu=on_cpu, default=elsewhere, **own)


def _sums(*arrays):
    return tuple(g.sum(tuple(range(g.ndim - 1))) for g in arrays)


def _sums_as_one(real, imaginary):
    """XLA:CPU fuses into one output at a time, and would run all steps again for each of the two
    and inside a plain sum: so both leave as one complex array, summed by a matrix product."""
    rows = lax.complex(real, imaginary).reshape(-1, real.shape[-1])
    total = (jnp.ones((1, rows.shape[0]), rows.dtype) @ rows)[0]
    return total.real, total.imag

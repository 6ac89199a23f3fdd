"""The spike: a Heaviside step forward, a chosen bell-shaped derivative backward.

A step has no useful gradient, so training replaces its derivative by a surrogate (spatio-temporal
backpropagation; DA-LIF, arXiv 2502.10422, eq. 10 and 11). Each surrogate here is a density in the
distance v from the threshold: it integrates to 1 and its scale is `width`, so that changing the
shape leaves the total gradient that passes a neuron comparable; `bell` is dampened, to 0.3.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

# Sharpness of the tanh-shaped surrogate of the public code DA-LIF grew from (MPBN lineage).
TANH_SHARPNESS = 3.0


def rectangle(v, width):
    """Rectangle (DA-LIF, arXiv 2502.10422, eq. 11, with a = 1): 1/a where |v| < a/2, else 0.

    Certainty: paper. DA-LIF, eq. 11.

    Differences: none known.
    """
    return jnp.where(jnp.abs(v) < width / 2, 1.0 / width, 0.0).astype(v.dtype)


def triangle(v, width):
    """Triangle (TET, ICLR 2022, and many others): max(0, 1 - |v|/a) / a.

    Certainty: code. TET's public code, with a = 1.

    Differences: none known.
    """
    return jnp.maximum(0.0, 1.0 - jnp.abs(v) / width) / width


def arctan(v, width):
    """Arctangent (PLIF, ICCV 2021, with a = 1): derivative of arctan(pi v/a)/pi + 1/2, which is
    (1/a) / (1 + (pi v/a)^2).

    Certainty: code. PLIF's public code and SpikingJelly.

    Differences:
      1. From the authors' code: its scale is alpha = 2/a, where here it is the width a.
    """
    return 1.0 / (width * (1.0 + (jnp.pi * v / width) ** 2))


def sigmoid(v, width):
    """Sigmoid, in wide use: derivative of sigmoid(4 v/a), whose peak is 1/a like the others'.

    Certainty: ours. No paper's: its scale is chosen for the peak.

    Differences: none known.
    """
    s = jax.nn.sigmoid(4.0 * v / width)
    return 4.0 / width * s * (1.0 - s)


def tanh(v, width):
    """Tanh (MPBN, ICCV 2023): derivative of tanh(k z) / (2 tanh(k/2)), z = v/a, k = 3, for
    |z| <= 1/2, else 0.

    Certainty: code. The public code of MPBN, with a = 1.

    Differences:
      1. From the authors' code: its window is 0 to 1 of what is compared with 0.5; here it is as
         wide as `surrogate_width` and around any threshold.
    """
    z = v / width
    bell = TANH_SHARPNESS / jnp.cosh(TANH_SHARPNESS * jnp.clip(z, -0.5, 0.5)) ** 2
    area = 2.0 * jnp.tanh(TANH_SHARPNESS / 2.0)
    return jnp.where(jnp.abs(z) <= 0.5, bell / (area * width), 0.0).astype(v.dtype)


def bell(v, width):
    """Bell (LSNN, NeurIPS 2018; Diet-SNN, TNNLS 2021): the triangle, dampened,
    0.3 max(0, 1 - |v|/a) / a.

    Certainty: code. The public code of both, with a = 1.

    Differences: none known.
    """
    return 0.3 * triangle(v, width)


def squared_sech(v, width):
    """Derivative of tanh(v/a)/2 + 1/2: sech^2(v/a) / (2 a), with K = 1/a of IM-Loss."""
    return 1.0 / (2.0 * width * jnp.cosh(jnp.clip(v / width, -20.0, 20.0)) ** 2)


def gradual(width, share, end):
    """A width that goes to `end` by the same factor every step: w0 (w1 / w0)^share.

    Certainty: stand-in. For gradual surrogate gradients (Chen et al., ICASSP 2022), by whose title
    surrogates sharpen while training.

    Differences:
      1. From the paper: its formula is in none of the sources that could be read; this one is ours.
    """
    return width * (end / width) ** share


def evolving(width, share):
    """IM-Loss (Guo et al., NeurIPS 2022): K = 1/width goes from 1 to 10,
    ((10^share - 1) 10 + (10 - 10^share) 1) / 9, which is 10^share; in units of `width`.

    Certainty: secondary. The schedule is put together from secondary sources.

    Differences:
      1. From the paper: K changes with every epoch there, here with every step.
      2. From the authors' code: as released it has no such surrogate, but `surrogate=tanh`.
    """
    return gradual(width, share, width / 10.0)


class Surrogate(NamedTuple):
    """A line of SURROGATES.

    `derivative` is a function of (v, width), shapes that broadcast. `width_at` is the width when a
    share of the training is over, 0 to 1: (width of the config, share) -> width.
    """

    derivative: Callable
    width_at: Callable = lambda width, share: width


SURROGATES = {
    "rectangle": Surrogate(rectangle),
    "triangle": Surrogate(triangle),
    "arctan": Surrogate(arctan),
    "sigmoid": Surrogate(sigmoid),
    "tanh": Surrogate(tanh),
    "bell": Surrogate(bell),
    "evolving": Surrogate(squared_sech, evolving),
}


def add(name, surrogate):
    """Make a Surrogate known by a name. Raises ValueError where the name is taken."""
    if SURROGATES.get(name, surrogate) is not surrogate:
        raise ValueError(f"surrogate={name!r} is taken; choose another name")
    SURROGATES[name] = surrogate


def spike(v, surrogate="rectangle", width=1.0, strict=False):
    """1 where v >= 0 (v > 0 where strict), else 0, in v's dtype; its derivative is the surrogate's.

    Args:
      v: distance of the membrane from its threshold, any shape, units of the threshold.
      surrogate: a key of SURROGATES.
      width: scale `a` of the surrogate, > 0, units of the threshold: a number, or an array that
        broadcasts to v. It shapes the derivative and gets none itself.
    Raises:
      KeyError: unknown surrogate, when differentiated; configs are checked earlier.
    """
    if isinstance(width, int | float):
        return _spike(v, surrogate, width, strict)
    return _spike_traced(v, jax.lax.stop_gradient(width), surrogate, strict)


def _fired(v, strict):
    return (v > 0 if strict else v >= 0).astype(v.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _spike(v, surrogate, width, strict):
    return _fired(v, strict)


def _forward(v, surrogate, width, strict):
    return _fired(v, strict), v


def _backward(surrogate, width, strict, v, gradient):
    return (gradient * SURROGATES[surrogate].derivative(v, width),)


_spike.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _spike_traced(v, width, surrogate, strict):
    return _fired(v, strict)


def _traced_forward(v, width, surrogate, strict):
    return _fired(v, strict), (v, width)


def _traced_backward(surrogate, strict, residuals, gradient):
    v, width = residuals
    slope = SURROGATES[surrogate].derivative(v, width).astype(v.dtype)
    return gradient * slope, jnp.zeros_like(width)


_spike_traced.defvjp(_traced_forward, _traced_backward)

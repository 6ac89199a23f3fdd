"""Convolutions and their weight gradients as sums of matrix products, for CPUs.

What a product reads is cut from a map in bands of rows, so that all of it lies in a core's cache;
bands, not images: the batch stays whole, and over devices divided as it is.
"""

import jax.numpy as jnp
from jax import lax

# Numbers in a band of a map and of what it is multiplied with: 4 MiB. Twice and half were slower on
# most maps (benchmarks/convolution.py).
NUMBERS = 2**20


def output_size(x_shape, kernel_shape, strides, padding):
    """(H', W') of a convolution."""
    return tuple(
        (size + sum(pad) - k) // stride + 1
        for size, k, stride, pad in zip(
            x_shape[1:3], kernel_shape[:2], strides, padding, strict=True
        )
    )


def products(x, kernel, strides, padding):
    """The sum over kernel positions of (the part of x it reaches) @ (its [C, O] weights)."""
    size = output_size(x.shape, kernel.shape, strides, padding)
    total = jnp.zeros((x.shape[0], *size, kernel.shape[-1]), x.dtype)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            rows, to_rows = _reach(i, x.shape[1], size[0], strides[0], padding[0][0])
            columns, to_columns = _reach(j, x.shape[2], size[1], strides[1], padding[1][0])
            part = x[:, rows, columns]
            if not part.size:
                continue
            pads = ((0, 0), to_rows, to_columns, (0, 0))
            total += jnp.pad(jnp.einsum("nhwc,co->nhwo", part, kernel[i, j]), pads)
    return total


def _reach(offset, size, out, stride, pad):
    """Which inputs kernel row `offset` meets, as a slice, and how many outputs lie before and
    after those it serves."""
    first = max(0, -(-(pad - offset) // stride))  # smallest output whose input is inside
    last = min(out - 1, (size - 1 + pad - offset) // stride)
    count = max(0, last - first + 1)
    start = first * stride + offset - pad
    return slice(start, start + (count - 1) * stride + 1 if count else start, stride), (
        first,
        out - first - count,
    )


def shifted(x, gradient, size, strides, padding):
    """The gradient of a kernel of `size` (kh, kw), strides of 1: a product for each of its rows, of
    x with the output's gradient, which is shifted once for each column.

    Args:
      x: [N, H, W, C].
      gradient: [N, H', W', O], that of the convolution's output.
    Returns:
      [kh, kw, C, O], in float32 or wider.
    """
    kh, kw = size
    (top, bottom), (left, right) = padding
    outputs = gradient.shape[3]
    N, _, columns, C = x.shape
    # Column j of the kernel meets gradient[w] at x[w + j - left]; rows of x meet it as they are.
    x = jnp.pad(x, ((0, 0), (top, bottom), (0, 0), (0, 0)))
    edges = ((0, 0, 0), (0, 0, 0), (kw - 1 - left, kw - 1 - right, 0), (0, 0, 0))

    def of(x, gradient, rows):
        gradient = lax.pad(gradient, jnp.zeros((), gradient.dtype), edges)
        shifts = [gradient[:, :, kw - 1 - j : kw - 1 - j + columns] for j in range(kw)]
        right = jnp.concatenate(shifts, -1).reshape(-1, kw * outputs)
        left = (x[:, i : i + rows].reshape(-1, C) for i in range(kh))
        return jnp.stack([_product(part, right) for part in left])

    total = _bands(of, x, gradient, kh, 1, N * columns * (C + kw * outputs), (kh, C, kw * outputs))
    return total.reshape(kh, C, kw, outputs).swapaxes(1, 2)


def patches(x, gradient, size, strides, padding):
    """The same in one product, of what the kernel meets at each position written out: for few
    channels. Any strides."""
    kh, kw = size
    N, _, width, outputs = gradient.shape
    C, (down, across) = x.shape[3], strides
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))

    def of(x, gradient, rows):
        met = [
            x[:, i : i + down * (rows - 1) + 1 : down, j : j + across * (width - 1) + 1 : across]
            for i in range(kh)
            for j in range(kw)
        ]
        return _product(
            jnp.concatenate(met, -1).reshape(-1, kh * kw * C), gradient.reshape(-1, outputs)
        )

    numbers = N * width * (kh * kw * C + outputs)
    total = _bands(of, x, gradient, kh, down, numbers, (kh * kw * C, outputs))
    return total.reshape(kh, kw, C, outputs)


def _bands(of, x, gradient, kh, stride, numbers, shape):
    """The sum of of(rows of x, rows of gradient, rows) over bands; `numbers` are what is multiplied
    for a row, `shape` is that of the result."""
    height = gradient.shape[1]
    fit = [r for r in range(1, height + 1) if height % r == 0 and r * numbers <= NUMBERS]
    rows = max(fit, default=1)
    if rows == height:
        return of(x, gradient, rows)

    def body(band, total):
        first = band * rows
        met = lax.dynamic_slice_in_dim(x, stride * first, stride * (rows - 1) + kh, 1)
        return total + of(met, lax.dynamic_slice_in_dim(gradient, first, rows, 1), rows)

    return lax.fori_loop(0, height // rows, body, jnp.zeros(shape, _wide(x.dtype)))


def _product(a, b):
    """[K, M], [K, N] -> [M, N], summed in float32 or wider."""
    return jnp.matmul(a.T, b, preferred_element_type=_wide(a.dtype))


def _wide(dtype):
    return jnp.promote_types(dtype, jnp.float32)

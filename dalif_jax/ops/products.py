"""Convolutions and their weight gradients as sums of matrix products, for CPUs.

What a product reads is cut from a map in bands of rows, so that all of it lies in a core's cache,
and where a row of the whole batch does not, of a part of its images. Every device's images are in
every band: the batch stays divided as it is.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from dalif_jax.ops.recompute import axes_of

# Bytes of a band of a map and of what it is multiplied with. Twice and half were slower on most
# maps (benchmarks/convolution.py).
BYTES = 2**22


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


def written(x, kernel, strides, padding):
    """One product, of what the kernel meets at each position written out, in bands: for numbers of
    16 bits, whose products some CPUs make at twice the speed, and their compilers no
    convolutions."""
    kh, kw, C, outputs = kernel.shape
    N = x.shape[0]
    height, width = output_size(x.shape, kernel.shape, strides, padding)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    matrix = kernel.reshape(-1, outputs)

    def of(x, rows):
        met = jnp.concatenate(_met(x, (kh, kw), strides, rows, width), -1)
        y = jnp.matmul(met.reshape(-1, kh * kw * C), matrix, preferred_element_type=_wide(x.dtype))
        return y.astype(x.dtype).reshape(-1, rows, width, outputs)

    bands = _divided(N, height, width * kh * kw * C * x.dtype.itemsize)
    if bands.count == 1:
        return of(x, height)

    def body(band, y):
        part = of(bands.of(x, band, kh, strides[0]), bands.rows)
        return bands.put(y, part, band)

    y = axes_of(x, jnp.zeros((N, height, width, outputs), x.dtype))
    return lax.fori_loop(0, bands.count, body, y)


def written_input(x, kernel, gradient, strides, padding):
    """The gradient of x of a convolution with strides of 1: that of its output, [N, H', W', O],
    convolved with the kernel turned round."""
    edges = ((k - 1 - a, k - 1 - b) for k, (a, b) in zip(kernel.shape[:2], padding, strict=True))
    return written(gradient, kernel[::-1, ::-1].swapaxes(2, 3), strides, tuple(edges))


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
    columns, C = x.shape[2:]
    # Column j of the kernel meets gradient[w] at x[w + j - left]; rows of x meet it as they are.
    x = jnp.pad(x, ((0, 0), (top, bottom), (0, 0), (0, 0)))
    edges = ((0, 0, 0), (0, 0, 0), (kw - 1 - left, kw - 1 - right, 0), (0, 0, 0))

    def of(x, gradient, rows):
        gradient = lax.pad(gradient, jnp.zeros((), gradient.dtype), edges)
        shifts = [gradient[:, :, kw - 1 - j : kw - 1 - j + columns] for j in range(kw)]
        right = jnp.concatenate(shifts, -1).reshape(-1, kw * outputs)
        left = (x[:, i : i + rows].reshape(-1, C) for i in range(kh))
        return jnp.stack([_product(part, right) for part in left])

    bytes_ = columns * (C + kw * outputs) * x.dtype.itemsize
    total = _bands(of, x, gradient, kh, 1, bytes_, (kh, C, kw * outputs))
    return total.reshape(kh, C, kw, outputs).swapaxes(1, 2)


def patches(x, gradient, size, strides, padding):
    """The same in one product, of what the kernel meets at each position written out: for few
    channels. Any strides."""
    kh, kw = size
    width, outputs = gradient.shape[2:]
    C = x.shape[3]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))

    def of(x, gradient, rows):
        met = jnp.concatenate(_met(x, size, strides, rows, width), -1)
        return _product(met.reshape(-1, kh * kw * C), gradient.reshape(-1, outputs))

    bytes_ = width * (kh * kw * C + outputs) * x.dtype.itemsize
    total = _bands(of, x, gradient, kh, strides[0], bytes_, (kh * kw * C, outputs))
    return total.reshape(kh, kw, C, outputs)


def turned(x, gradient, size, strides, padding):
    """The same in a product for each of the kernel's positions, of x turned to have its channels
    first: products of 16 bits want that what they sum over lies together. Any strides."""
    kh, kw = size
    width, outputs = gradient.shape[2:]
    C = x.shape[3]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))

    def of(x, gradient, rows):
        # Behind a barrier, or the compiler hands the products what is not turned.
        x = lax.optimization_barrier(x.transpose(3, 0, 1, 2))
        right = gradient.reshape(-1, outputs)
        met = _met(x, size, strides, rows, width, 2)
        left = (lax.optimization_barrier(part.reshape(C, -1)) for part in met)
        wide = _wide(x.dtype)
        return jnp.stack([jnp.matmul(part, right, preferred_element_type=wide) for part in left])

    bytes_ = width * (kh * kw * C + outputs) * x.dtype.itemsize
    total = _bands(of, x, gradient, kh, strides[0], bytes_, (kh * kw, C, outputs))
    return total.reshape(kh, kw, C, outputs)


def _met(x, size, strides, rows, width, axis=1):
    """What each position of a kernel meets in a padded band for `rows` rows of output: a list, row
    by row; the band's height lies on `axis`, its width behind it."""
    (kh, kw), (down, across) = size, strides

    def reach(first, stride, count):
        return slice(first, first + stride * (count - 1) + 1, stride)

    before = (slice(None),) * axis
    return [
        x[(*before, reach(i, down, rows), reach(j, across, width))]
        for i in range(kh)
        for j in range(kw)
    ]


class _Bands(NamedTuple):
    """How maps are divided: into `parts` of the batch, every part's images at a stride of `parts`,
    so that each holds some of every device's; and those into bands of `rows` rows of output."""

    parts: int
    rows: int
    height: int

    @property
    def count(self):
        return self.parts * (self.height // self.rows)

    def of(self, x, band, kh=1, stride=1):
        """The rows of x [N, ...], padded, that a band of the output meets: [N / parts, ...]."""
        split = x.reshape(-1, self.parts, *x.shape[1:])
        met = stride * (self.rows - 1) + kh
        taken = lax.dynamic_slice(
            split, self._place(band, stride), (len(split), 1, met, *x.shape[2:])
        )
        return taken[:, 0]

    def put(self, y, value, band):
        """y [N, ...] with a band's value."""
        split = y.reshape(-1, self.parts, *y.shape[1:])
        split = lax.dynamic_update_slice(split, value[:, None], self._place(band, 1))
        return split.reshape(y.shape)

    def _place(self, band, stride):
        return 0, band % self.parts, band // self.parts * self.rows * stride, 0, 0


def _divided(images, height, bytes_):
    """Bands of as many whole rows as fit at `bytes_` a row of an image, or of one row of as many
    images as fit; all are of one size."""

    def fitting(whole, bytes_):
        return max((n for n in range(1, whole + 1) if not whole % n and n * bytes_ <= BYTES),
                   default=1)  # fmt: skip

    taken = fitting(images, bytes_)
    return _Bands(images // taken, fitting(height, taken * bytes_), height)


def _bands(of, x, gradient, kh, stride, bytes_, shape):
    """The sum of of(rows of x, rows of gradient, rows) over bands; `bytes_` are what is multiplied
    for a row of an image, `shape` is that of the result."""
    bands = _divided(gradient.shape[0], gradient.shape[1], bytes_)
    if bands.count == 1:
        return of(x, gradient, bands.rows)

    def body(band, total):
        return total + of(bands.of(x, band, kh, stride), bands.of(gradient, band), bands.rows)

    total = axes_of(x, jnp.zeros(shape, _wide(x.dtype)))
    return lax.fori_loop(0, bands.count, body, total)


def _product(a, b):
    """[K, M], [K, N] -> [M, N], summed in float32 or wider."""
    return jnp.matmul(a.T, b, preferred_element_type=_wide(a.dtype))


def _wide(dtype):
    return jnp.promote_types(dtype, jnp.float32)

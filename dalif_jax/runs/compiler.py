"""Whether Python, JAX and XLA can be trusted with a run: versions, and sums known to go wrong.

A compiler that adds up wrongly says nothing and trains badly. jaxlib 0.10.2 did so on CPUs, for a
matrix times many vectors, squared and summed (https://github.com/jax-ml/jax/issues/39103).
"""

import functools
import re
import sys
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np

# As pyproject.toml has them, for a checkout may run in any environment; a test compares the two.
PYTHON = (3, 12)
JAX = (0, 11, 2)


class Unsupported(RuntimeError):
    """Python, JAX or jaxlib is too old, or adds up wrongly; says which to get."""


def check():
    """Refuse an environment whose results cannot be trusted.

    Raises:
      Unsupported: see check_versions and check_sums.
    """
    check_versions(sys.version_info, {name: version(name) for name in ("jax", "jaxlib")})
    check_sums()


def check_versions(python, packages):
    """Compare versions with the oldest that are supported.

    Args:
      python: sys.version_info.
      packages: {"jax": "0.12.0", "jaxlib": ...}.
    Raises:
      Unsupported: one is older; names it and what to get.
    """
    wanted = ".".join(map(str, JAX))
    if tuple(python[:2]) < PYTHON:
        raise Unsupported(
            f"Python {'.'.join(map(str, python[:3]))} is too old: get Python 3.12 or 3.13, make a "
            "new environment with it (python3.13 -m venv .venv) and install requirements.txt"
        )
    for name, found in packages.items():
        if tuple(map(int, re.findall(r"\d+", found)[:3])) < JAX:
            raise Unsupported(
                f"{name} {found} is too old: pip install -U 'jax>={wanted}' jaxlib "
                "(jaxlib 0.10.2 computes wrong sums on CPUs)"
            )


def known_sums(rows, dtype):
    """A sum that one compiler got wrong in its last row, and what is right.

    Returns:
      (float [rows] as compiled, float [rows] exactly), both NumPy.
    """
    vectors = np.zeros((rows, 3), dtype)
    vectors[:, 0] = np.arange(rows)
    matrix = jnp.eye(3, dtype=dtype)
    # In full precision: a GPU would round the factors to 10 bits, a TPU to 8.
    product = functools.partial(jnp.matmul, matrix, precision="highest")
    squares = jax.jit(jax.vmap(lambda row: jnp.sum(product(row) ** 2)))
    return np.asarray(squares(vectors)), (vectors**2).sum(1)


def check_sums():
    """Compute the sums that are known to have gone wrong once, on this machine's devices.

    Raises:
      Unsupported: they come out wrong; says by how much.
    """
    # float32 shows it from 32,769 rows on; every value is a square of an integer below 2^16, so
    # that only rounding could make a difference of one part in 2^23.
    found, right = known_sums(32_769, np.float32)
    worst = int(np.abs(found - right).argmax())
    if not np.allclose(found, right, rtol=1e-5):
        raise Unsupported(
            f"jaxlib {version('jaxlib')} adds up wrongly on this machine: {found[worst]:.0f} for "
            f"{right[worst]:.0f}; nothing is trained with it. pip install -U jax jaxlib, or set "
            "XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type= to do without the part that is wrong"
        )

"""How the C library keeps memory: a train step's arrays are reused, not mapped anew.

A step on a CPU takes hundreds of MiB and gives them back at its end, in threads of its own. For a
thread other than the first, glibc maps whatever is above 32 MiB, and unmaps it when freed; the
kernel then clears every page once more at every step (benchmarks/allocator.py has what it costs).
"""

import contextlib
import ctypes
import os

# glibc's names for mallopt's parameters (malloc.h).
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8
# One heap for all threads, which alone can hold large blocks; it is not given back to the kernel.
SETTINGS = (
    (ARENA_MAX, 1), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, 2**28), (MMAP_THRESHOLD, 2**30),
)  # fmt: skip


def give_back():
    """What is free goes back to the kernel once: after a program was compiled, which takes more
    than it runs in."""
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def keep_freed_memory():
    """Have this process reuse what it frees: before JAX is imported, while it has one thread.

    Freed memory stays with the process: it holds what it needed most. Nothing happens where another
    C library allocates, or the environment's GLIBC_TUNABLES already says how to.

    Returns:
      Whether all was taken.
    """
    if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  another library's mallopt, if any, knows others
        return all([library.mallopt(*setting) for setting in SETTINGS])
    except (OSError, TypeError, AttributeError):
        return False

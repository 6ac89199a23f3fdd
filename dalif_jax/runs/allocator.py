"""Memory of a run: what compiling took goes back to the system, and the most that was held.

A program takes more to be compiled than to run.
"""

import contextlib
import ctypes
import sys
from pathlib import Path

import jax


def give_back():
    """Have glibc return what is free to the kernel, once; another C library is left alone."""
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def peak():
    """The most memory held so far, MB: the first device's where it counts, else the process's.

    None where neither is known (a CPU under Windows).
    """
    counted = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    if counted:
        return round(counted / 1e6, 1)
    status = Path("/proc/self/status")
    if status.exists():  # Linux's getrusage counts what the parent held when it forked, too
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) * 1024 / 1e6, 1)
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)

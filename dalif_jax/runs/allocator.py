"""What compiling took goes back to the system: a program takes more to be compiled than to run."""

import contextlib
import ctypes


def give_back():
    """Have glibc return what is free to the kernel, once; another C library is left alone."""
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)

"""What compiling took is given back."""

import os
import platform
import subprocess
import sys

import pytest

from dalif_jax.runs import allocator

# 256 MiB in blocks that glibc keeps when they are freed, for one behind them is not.
PROGRAM = """
from pathlib import Path
from dalif_jax.runs import allocator

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

blocks = [bytearray(2**16) for _ in range(2**12)]
last = bytearray(2**16)
del blocks
before = resident()
allocator.give_back()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's")
def test_free_memory_goes_back_to_the_kernel():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, "GLIBC_TUNABLES": ""},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) > 200 * 1024  # KiB


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    allocator.give_back()


def test_the_most_memory_held_is_counted_and_kept():
    program = (
        "from dalif_jax.runs import allocator; before = allocator.peak(); "
        "block = bytearray(2**29); block[::4096] = b'1' * 2**17; after = allocator.peak(); "
        "del block; print(after - before, allocator.peak() - after)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    grown, shrunk = map(float, done.stdout.split())
    assert 250 < grown < 560 and abs(shrunk) < 1  # the kernel counts in batches

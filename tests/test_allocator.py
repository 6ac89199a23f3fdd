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

"""Freed memory is kept for the next step, and what the shell says about it stands."""

import os
import platform
import subprocess
import sys

import pytest

from dalif_jax.runs import allocator

# Takes and frees 64 MiB a few times in another thread, as a train step does; prints page faults.
PROGRAM = """
import resource, sys, threading
import numpy as np
from dalif_jax.runs import allocator
if "keep" in sys.argv:
    assert allocator.keep_freed_memory()
faults = []
def step():
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.ones(2**23)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=step)
thread.start()
thread.join()
print(sum(faults[1:]))
"""


def faults(*arguments):
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_thread_takes_what_it_freed_without_new_pages():
    kept, default = faults("keep"), faults()
    if not default:
        pytest.skip("page faults are not counted here")
    assert 4 * kept < default


def test_the_environments_own_settings_stand(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=4")
    assert not allocator.keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert not allocator.keep_freed_memory()

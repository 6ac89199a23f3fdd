"""Tests run on eight simulated CPU devices, so that sharding is tested wherever they run."""

import gc
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the suite's time is compiling; the programs the commands run are compiled as users' are.
# Not at level 0, JAX_DISABLE_MOST_OPTIMIZATIONS: some train steps are NaN there, and only there.
_FLAGS = (
    "--xla_force_host_platform_device_count=8", "--xla_backend_optimization_level=1",
    "--xla_llvm_disable_expensive_passes=true",
)  # fmt: skip
_GIVEN = os.environ.get("XLA_FLAGS", "").split()
os.environ["XLA_FLAGS"] = " ".join([*_GIVEN, *(flag for flag in _FLAGS if flag not in _GIVEN)])

import jax  # noqa: E402  after its flags
import pytest  # noqa: E402

# Tracing makes objects by the million, of which few form cycles: by its defaults the collector
# takes a seventh of the time in which networks are traced.
gc.freeze()
gc.set_threshold(50_000, 10, 10)


@pytest.fixture
def x64():
    """float64 for the length of one test."""
    with jax.enable_x64(True):
        yield

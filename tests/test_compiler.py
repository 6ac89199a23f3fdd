"""The compiler adds up rightly: versions, known sums, whole train steps compiled in two ways."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import train_steps

from dalif_jax.runs import compiler

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# XLA:CPU without the library that added up wrongly in jaxlib 0.10.2.
WITHOUT = "--xla_cpu_experimental_ynn_fusion_type="
QUICK = ("tiny", "neuron=tied")


def test_the_versions_checked_are_those_declared():
    assert PROJECT["requires-python"] == ">=" + ".".join(map(str, compiler.PYTHON))
    (jax_range,) = [line for line in PROJECT["dependencies"] if line.startswith("jax>")]
    assert jax_range.startswith("jax>=" + ".".join(map(str, compiler.JAX)) + ",<")
    script = (ROOT / ".ci" / "run").read_text()
    assert "jax==" + ".".join(map(str, compiler.JAX)) in script


@pytest.mark.parametrize(
    ("python", "jax", "jaxlib", "message"),
    [
        ((3, 11, 7), "0.12.0", "0.12.0", r"Python 3\.11\.7 is too old: get Python 3\.12"),
        ((3, 12, 1), "0.10.2", "0.10.2", r"jax 0\.10\.2 is too old: pip install -U 'jax>=0\.11\.2"),
        ((3, 13, 0), "0.11.1", "0.11.1", r"jax 0\.11\.1 is too old"),
        ((3, 13, 0), "0.12.0.1", "0.10.2", r"jaxlib 0\.10\.2 is too old"),
        ((3, 12, 0), "0.11.2", "0.11.2", None),
        ((3, 14, 0), "1.0.0rc1", "1.0.0", None),
    ],
)
def test_an_old_python_or_jax_is_refused_in_one_line(python, jax, jaxlib, message):
    packages = {"jax": jax, "jaxlib": jaxlib}
    if message is None:
        compiler.check_versions(python, packages)
        return
    with pytest.raises(compiler.Unsupported, match=message) as caught:
        compiler.check_versions(python, packages)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_known_sums_come_out_right(dtype, x64):
    found, right = compiler.known_sums(32_769 if dtype == np.float32 else 16_385, dtype)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, right, rtol=1e-6)


def test_a_compiler_that_adds_up_wrongly_is_refused(monkeypatch):
    """What jaxlib 0.10.2 gave: the last of 32,769 rows loses 0.2 % of its sum."""

    def wrong(rows, dtype):
        right = np.arange(rows, dtype=dtype) ** 2
        return np.where(np.arange(rows) == rows - 1, np.float32(1071645696), right), right

    monkeypatch.setattr(compiler, "known_sums", wrong)
    with pytest.raises(compiler.Unsupported, match="1071645696 for 1073741824; nothing is trained"):
        compiler.check_sums()


def steps(out, names, flags):
    """train_steps.py in a process of its own, optimised as for users."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": flags,
    }
    # In a cache of programs both would find the same one.
    environment["JAX_COMPILATION_CACHE_DIR"] = ""
    return subprocess.Popen(
        [sys.executable, ROOT / "tests" / "train_steps.py", out, *names],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "names", [QUICK, pytest.param((), marks=pytest.mark.slow)], ids=["quick", "every case"]
)
def test_train_steps_agree_with_and_without_the_fusions(names, tmp_path):
    """Loss, gradients and statistics of a step in float64, to 1e-10 of each array's largest."""
    outs = [tmp_path / "with.npz", tmp_path / "without.npz"]
    for process in [steps(outs[0], names, ""), steps(outs[1], names, WITHOUT)]:
        printed = process.communicate(timeout=1200)[0]
        assert process.returncode == 0, printed
    one, other = (dict(np.load(out)) for out in outs)
    assert set(one) == set(other)
    cases = {re.split(r" \(|\[|<", key)[0].strip() for key in one}
    assert cases >= set(names or train_steps.CASES), cases
    differing = []
    for key, value in one.items():
        a, b = value.astype(np.float64), other[key].astype(np.float64)
        largest = np.abs(a).max(initial=0.0)
        gap = np.abs(a - b).max(initial=0.0)
        tolerance = 1e-5 if "float32" in key else 1e-10
        if not gap <= tolerance * max(largest, 1e-3):
            differing.append(f"{key}: {gap:.3g} of {largest:.3g}")
    assert not differing, "\n".join(differing[:20])


def test_every_network_and_neuron_is_a_case():
    from dalif_jax.attention import ATTENTION
    from dalif_jax.losses import LOSSES
    from dalif_jax.networks import NETWORKS
    from dalif_jax.neurons import NEURONS
    from dalif_jax.surrogates import SURROGATES

    assert set(NETWORKS) <= set(train_steps.CASES)
    assert {f"neuron={name}" for name in NEURONS} <= set(train_steps.CASES)
    assert {f"attention={name}" for name in set(ATTENTION) - {"none"}} <= set(train_steps.CASES)
    assert {f"loss={name}" for name in LOSSES} <= set(train_steps.CASES)
    assert {f"surrogate={name}" for name in SURROGATES} <= set(train_steps.CASES)

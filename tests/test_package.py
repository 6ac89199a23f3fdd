"""The package: what the wheel holds, what importing it needs, ten lines that use it."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from commands import run

import dalif_jax

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# The README's lines for users of the library, and what must be true after them.
TEN_LINES = re.search(r"```python\n(import jax, .*?)```", (ROOT / "README.md").read_text(), re.S)[1]
TEN_LINES = (
    TEN_LINES.replace("logits = dj.build", "before = logits\nlogits = dj.build")
    + """
import jax.numpy as jnp
assert before.shape == logits.shape == (2, 4, 10) and jnp.ptp(logits) > 0
assert jnp.allclose(first, before[:, 0], atol=1e-5)
assert gradient["params"]["stem0_neuron"]["w"] != 0
assert dj.tapped(model, variables, x, ("spikes",))[1]["stem0_neuron"]["spikes"].max() == 1
"""
)


def requirements():
    """The lines of requirements.txt without comments."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_requirements_are_the_dependencies_and_all_extras():
    declared = {*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)}
    assert sorted(requirements()) == sorted(declared)


def test_each_requirement_has_one_range_and_a_line_in_the_readme():
    everything = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
    ranges = {}
    for line in everything:
        name = re.match(r"[\w-]+", line)[0]
        assert ranges.setdefault(name, line) == line
        assert ">=" in line and ",<" in line
    built_on = (ROOT / "README.md").read_text().split("## Built on")[1]
    notice = (ROOT / "NOTICE").read_text()
    for name in ranges:
        assert name in built_on, f"{name}: the README does not say why"
        assert name in notice, f"{name}: NOTICE does not say its licence"


def test_the_version_is_in_one_place_and_shown():
    code, out = run("train.py", "--version")
    assert code == 0 and out.startswith(f"dalif_jax {dalif_jax.__version__}, jax "), out
    code, out = run("eval.py", "--version")
    assert code == 0 and out.startswith(f"dalif_jax {dalif_jax.__version__}, jax "), out
    assert f"version: {dalif_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {dalif_jax.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert PROJECT["dynamic"] == ["version"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, sdist)."""
    folder = tmp_path_factory.mktemp("built")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=ROOT, check=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_wheel_and_sdist_hold_the_package_alone(built):
    wheel, sdist = built
    sources = {str(p.relative_to(ROOT)) for p in (ROOT / "dalif_jax").rglob("*.py")}
    sources.add("dalif_jax/py.typed")
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"dalif_jax-{dalif_jax.__version__}.dist-info/"
    assert {name for name in names if not name.startswith(info)} == sources
    assert {info + "licenses/LICENSE", info + "licenses/NOTICE"} <= names
    with tarfile.open(sdist) as tar:
        top = f"dalif_jax-{dalif_jax.__version__}/"
        held = {name.removeprefix(top) for name in tar.getnames()}
    extra = {"README.md", "LICENSE", "NOTICE", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert held - extra == sources


def test_the_neuron_needs_no_extra(tmp_path):
    """Everything of the extras blocked: networks are built, run, differentiated and streamed."""
    modules = {
        "absl", "orbax", "filelock", "matplotlib", "scipy", "tensorboardX", "tensorflow_datasets",
        "grain", "google_crc32c", "joblib", "sklearn", "PIL", "tonic", "aedat", "nir",
        "safetensors", "pytest", "flatbuffers",
    }  # fmt: skip
    # flax and ml_collections bring these two themselves.
    modules -= {"orbax", "absl"}
    blocked = f"import sys\nfor name in {sorted(modules)}:\n    sys.modules[name] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + TEN_LINES], cwd=tmp_path, text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_wheel_works_alone_in_an_empty_environment(built, tmp_path):
    """Installed with the core alone, used from another folder."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", built[0]], check=True)
    subprocess.run([*pip, "check"], check=True)
    (tmp_path / "elsewhere").mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "XLA_FLAGS")}

    def ask(lines):
        return subprocess.run(
            [python, "-W", "error", "-c", lines], cwd=tmp_path / "elsewhere", env=environment,
            text=True, capture_output=True,
        )  # fmt: skip

    done = ask(TEN_LINES)
    assert done.returncode == 0, done.stderr
    done = ask("import dalif_jax; print(dalif_jax.__version__, dalif_jax.__file__)")
    assert done.stdout.startswith(f"{dalif_jax.__version__} {tmp_path}"), done.stdout

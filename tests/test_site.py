"""The site builds without a warning, and every block of code on its tutorials and of the README
runs, in the order of the page, as a reader would run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HERE = (
    "dalif_jax",
    "configs",
    "ablations",
    "examples",
    "train.py",
    "eval.py",
    "convert.py",
    "docs",
)


def blocks(path):
    return BLOCK.findall(path.read_text())


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_code_of_a_tutorial_is_shell_or_python_and_compiles(path):
    found = blocks(path)
    assert found and {kind for kind, _ in found} <= {"sh", "python"}, path.name
    for kind, text in found:
        if kind == "python":
            compile(text, path.name, "exec")


def test_every_tutorial_is_in_the_contents():
    contents = (ROOT / "docs" / "index.md").read_text()
    for path in TUTORIALS:
        assert f"\ntutorials/{path.stem}\n" in contents


@pytest.mark.site
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_as_it_stands(path, tmp_path):
    for name in HERE:
        (tmp_path / name).symlink_to(ROOT / name)
    programs = Path(sys.executable).parent  # `python` is this one
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PATH": f"{programs}:{os.environ['PATH']}",
        "MPLBACKEND": "agg",
    }  # fmt: skip
    for kind, text in blocks(path):
        words = ["bash", "-euc", text] if kind == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


@pytest.mark.site
def test_the_site_builds_without_a_warning(tmp_path):
    words = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "methods" / "neuron-plif.html").read_text()
    assert "sigmoid(w)" in page
    # Nothing is fetched when it is read: it works without a network.
    for path in tmp_path.rglob("*.html"):
        fetched = re.findall(r'<(?:script|link|img)\b[^>]*?(?:src|href)="(https?:[^"]*)"',
                             path.read_text())  # fmt: skip
        assert not fetched, (path.name, fetched)

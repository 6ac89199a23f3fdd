"""The two commands as tests start them, on a network that trains in seconds."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SHORT = (
    "--config.model=tiny", "--config.timesteps=2", "--config.epochs=4", "--config.log_every=7",
)  # fmt: skip


def command(script, *arguments, **environment):
    # One device, as on a user's laptop: the suite's own eight are for sharding.
    return {
        "args": [sys.executable, script, *map(str, arguments)],
        "cwd": ROOT,
        "env": {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", **environment},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    }


def run(script, *arguments, **environment):
    done = subprocess.run(**command(script, *arguments, **environment), timeout=300)
    return done.returncode, done.stdout


def train(workdir, *arguments, **environment):
    return run(
        "train.py", "--config", "configs/digits.py", "--workdir", workdir, *SHORT, *arguments,
        **environment,
    )  # fmt: skip


def final_state(workdir):
    """The arrays of the newest checkpoint, by path, as raw bytes."""
    import jax
    import orbax.checkpoint as ocp

    newest = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    tree = ocp.StandardCheckpointer().restore(workdir / "checkpoints" / str(newest) / "state")
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One uninterrupted short run, used by the tests below."""
    workdir = tmp_path_factory.mktemp("run")
    code, out = train(workdir)
    assert code == 0, out
    return workdir, out

"""Start a program many times with its imports done once: each start is a fork of this process.

    python tests/forked.py train.py   # command lines as JSON on standard input

Prints a JSON list of [exit code, standard output and error]. For command lines that end before
JAX's devices are used: a process that uses them must not fork.
"""

import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def outcomes(program, command_lines):
    """[(exit code, output)] of starting a program with each of the command lines."""
    done = subprocess.run(
        [sys.executable, __file__, program],
        input=json.dumps(command_lines), capture_output=True, text=True, cwd=ROOT, timeout=600,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def main(program):
    sys.path[0] = str(ROOT)
    sys.argv = [program]
    loaded = runpy.run_path(str(ROOT / program), run_name="loaded")
    results = []
    for words in json.load(sys.stdin):
        with tempfile.TemporaryFile() as file:
            child = os.fork()
            if not child:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                sys.argv = [program, *words]
                loaded["run_program"](loaded["main"])
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            file.seek(0)
            results.append((code, file.read().decode()))
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])

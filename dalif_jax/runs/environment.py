"""What a run must not owe to the shell it is started from: the programs import this before JAX.

JAX reads its settings while it is imported, and any of them may lie in an environment: float64,
debugging, other products, other random numbers. A run's config alone says what it computes, so they
are left out before JAX sees them, but for those that say where it computes. Where Python was told
an encoding of paths that not every path has, it is started again in UTF-8, which JAX's and orbax's
file readers take for granted; and what a terminal cannot show is printed as its code. Output that
cannot be written is dropped (output.py), and signals end the program cleanly (signals.py).
"""

import os
import subprocess
import sys

from dalif_jax.runs import output, signals

# Where a program computes and what it keeps, by the first letters of the names.
KEPT = (
    "JAX_PLATFORM", "JAX_NUM_CPU_DEVICES", "JAX_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE",
    "JAX_ENABLE_COMPILATION_CACHE", "JAX_CUDA_", "JAX_ROCM_", "JAX_COORDINAT", "JAX_PROCESS",
    "JAX_NUM_PROCESSES", "JAX_LOCAL_", "JAX_CPU_COLLECTIVES", "JAX_TRACEBACK_FILTERING",
)  # fmt: skip
OTHERS = ("NVIDIA_TF32_OVERRIDE",)  # what a product in float32 is, likewise


def settle():
    """Leave out of the environment what would change a run, and say so; mend the encodings.

    Raises:
      SystemExit: XLA_FLAGS or a setting of JAX holds what they do not know.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        shown = os.environ.get("PYTHONIOENCODING") or getattr(sys.stdout, "encoding", "utf-8")
        mended = {"PYTHONUTF8": "1", "PYTHONIOENCODING": shown}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | mended)
    if output.install():
        signals.exit_on_signals()

    left_out = [
        f"{name}={os.environ.pop(name)}"
        for name in sorted(os.environ)
        if name in OTHERS or (name.startswith("JAX_") and not name.startswith(KEPT))
    ]
    if left_out:
        print(
            f"left out of the environment: {', '.join(left_out)}; a run computes what its config "
            "says",
            file=sys.stderr,
        )
    if os.environ.get("XLA_FLAGS", "").strip():
        _check_xla_flags()
    try:
        import jax  # noqa: F401  reads the rest
    except ValueError as error:
        refuse(f"the environment holds a setting that JAX does not take: {error}")


def _check_xla_flags():
    # XLA aborts the process at a flag it does not know, in the middle of whatever it is doing.
    client = "from jaxlib import xla_client; xla_client.make_cpu_client()"
    tried = subprocess.run(
        [sys.executable, "-c", client], capture_output=True, text=True, errors="replace"
    )
    if tried.returncode:
        lines = tried.stderr.splitlines()
        said = next((line.split("] ")[-1] for line in lines if "XLA_FLAGS" in line), lines[-1:])
        refuse(f"{said}; correct the environment's XLA_FLAGS, or unset it")


def refuse(message):
    """End the program as bad input does."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(2)


settle()

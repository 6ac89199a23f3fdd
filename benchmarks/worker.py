"""The process that holds one side of a comparison: JSON commands in, JSON replies out.

Each side runs in a process of its own (its own Python environment, allocator and thread pool) and
waits on its pipe while the other is timed, so that they can alternate within seconds.
"""

import json
import os
import sys
import traceback
from pathlib import Path

from dalif_jax.runs.allocator import give_back


def serve(make):
    """Answer commands on stdin with `make(spec)`'s methods until stdin closes.

    The spec is the program's argument, as JSON. A command is {"do": method, ...arguments}; the
    reply is what the method returns, or {"error": one line}.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with replies
    side = make(json.loads(sys.argv[1]))
    for line in sys.stdin:
        command = json.loads(line)
        try:
            reply = getattr(side, command.pop("do"))(**command)
        except Exception as error:  # whatever it is, the driver must hear of it
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(reply), file=replies, flush=True)


def resident(key="VmRSS"):
    """Bytes of this process's memory: VmRSS now, VmHWM at its highest since `restart_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))


def restart_peak():
    Path("/proc/self/clear_refs").write_text("5")


class Peak:
    """How far resident memory rises, from its making on; compiling and what follows apart."""

    def __init__(self):
        restart_peak()
        self.before, self.compiled = resident(), 0

    def compiled_now(self):
        """What was needed for compiling alone goes back to the kernel, on either side."""
        self.compiled = resident("VmHWM") - self.before
        give_back()
        restart_peak()

    def read(self):
        """{peak_bytes: of all, steps_peak_bytes: since it was compiled}."""
        steps = resident("VmHWM") - self.before
        return {"peak_bytes": max(steps, self.compiled), "steps_peak_bytes": steps}

"""What every benchmark does: start both sides, alternate them, keep medians, write one JSON."""

import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# The same allocator and thread settings for both sides. glibc would map and unmap every array of
# 32 MiB and more at each use, in small pages, and OpenMP's threads would spin beside a waiting
# neighbour.
ENVIRONMENT = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=8589934592"
    ":glibc.malloc.trim_threshold=17179869184",
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "OMP_NUM_THREADS": str(os.cpu_count()),
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
    "PYTHONWARNINGS": "ignore",
}

QUIET = 0.3  # load of the last minute below which timings count


class Failed(RuntimeError):
    """One side answered with an error."""


class Side:
    """One side's process: ours under this Python, or SpikingJelly's under `torch_python`.

    Calling a method of it sends the command of that name.
    """

    def __init__(self, name, spec, torch_python=None):
        self.name, self.spec = name, spec
        self.process = subprocess.Popen(
            [
                torch_python or sys.executable,
                str(HERE / ("torch_worker.py" if torch_python else "jax_worker.py")),
                json.dumps(spec),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=_log(),
            env={**os.environ, **ENVIRONMENT},
        )  # fmt: skip

    def __getattr__(self, command):
        def send(**arguments):
            print(json.dumps({"do": command, **arguments}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
            if not line:
                raise Failed(f"{self.name}: the process ended with {self.process.wait()}")
            reply = json.loads(line)
            if "error" in reply:
                raise Failed(f"{self.name}: {reply['error']}")
            return reply

        return send

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def prepare(contenders, torch_python):
    """(sides that are ready, {name: what it said}, {name: why it failed}) of {name: (spec, whether
    it is ours)}."""
    ready, said, failed = [], {}, {}
    for name, (spec, ours) in contenders.items():
        side = Side(name, spec, None if ours else torch_python)
        try:
            said[name] = side.prepare()
            ready.append(side)
        except Failed as error:
            failed[name] = str(error)
            side.close()
    return ready, said, failed


def floor(sides):
    """The time to move what a neuron layer must, 5 arrays where a copy moves 2, at the bandwidth of
    the fastest side's copy: of a record."""
    copies = [statistics.median(side.copy(repeats=10)["seconds"]) for side in sides]
    return {"copy_s": min(copies), "floor_s": 2.5 * min(copies)}


class InProcess:
    """A side that is a function in this process, where all sides are ours."""

    def __init__(self, name, step):
        self.name, self.step = name, step
        step()

    def run(self, steps):
        seconds = []
        for _ in range(steps):
            started = time.perf_counter()
            self.step()
            seconds.append(time.perf_counter() - started)
        return {"seconds": seconds}


def _log():
    """Where the sides' messages and tracebacks go: the file BENCHMARK_LOG names, else nowhere."""
    path = os.environ.get("BENCHMARK_LOG")
    return open(path, "a") if path else subprocess.DEVNULL


def alternate(sides, rounds, steps):
    """A B C, A B C, ...: {name: median, quartiles, count and, of 100 and more,
    the 99th percentile of the seconds of a step}."""
    seconds = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            seconds[side.name] += side.run(steps=steps)["seconds"]
    out = {}
    for name, values in seconds.items():
        low, middle, high = statistics.quantiles(values, n=4)
        out[name] = {"median_s": middle, "quartiles_s": [low, high], "steps": len(values)}
        if len(values) >= 100:
            out[name]["p99_s"] = statistics.quantiles(values, n=100)[98]
    return out


def load():
    """Processes that ran or waited over the last minute."""
    return os.getloadavg()[0]


def beside(seconds=1.0):
    """{process: share of a core} of those that take more than a twentieth of one, but this and
    the kernel's own."""

    def ticks():
        found = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                name, _, rest = path.read_text().partition(" (")[2].rpartition(") ")
                parent, user, system = (int(rest.split()[i]) for i in (1, 11, 12))
                if parent != 2:  # the parent of Linux's threads
                    found[f"{path.parent.name} {name}"] = user + system
        return found

    before = ticks()
    time.sleep(seconds)
    per_second = os.sysconf("SC_CLK_TCK") * seconds
    shares = {name: (after - before.get(name, 0)) / per_second for name, after in ticks().items()}
    own = f"{os.getpid()} "
    return {k: round(v, 2) for k, v in shares.items() if v > 0.05 and not k.startswith(own)}


def parse(parser):
    """(arguments, conditions of the run); ends with a message where the machine is not quiet."""
    parser.add_argument("--busy", action="store_true", help="measure even so, and write it down")
    arguments = parser.parse_args()
    conditions = {"load_before": load(), "beside": beside()}
    timed = not (arguments.busy or getattr(arguments, "gate", False))
    if timed and (conditions["load_before"] > QUIET or conditions["beside"]):
        raise SystemExit(
            f"not a quiet machine: load {conditions['load_before']:.2f}, below {QUIET} is; beside "
            f"this {conditions['beside'] or 'nothing'}. Wait, or say --busy: that is written down"
        )
    return arguments, conditions


def ceiling(sides, size=2048, repeats=10):
    """{side: GFLOP/s of a float32 product of two size x size matrices}: what two cores can give."""
    return {
        side.name: 2e-9
        * size**3
        / statistics.median(side.product(size=size, repeats=repeats)["seconds"])
        for side in sides
    }


def bandwidth(sides, values=2**25, repeats=10):
    """{side: bytes a second that a copy of `values` float32 reads and writes}."""
    return {
        side.name: 8
        * values
        / statistics.median(side.move(values=values, repeats=repeats)["seconds"])
        for side in sides
    }


def machine():
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    git = lambda *a: subprocess.run(  # noqa: E731
        ["git", *a], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    return {
        "date": datetime.date.today().isoformat(),
        "commit": git("rev-parse", "HEAD") + ("-changed" if git("status", "--porcelain") else ""),
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "environment": {k: v for k, v in ENVIRONMENT.items() if k != "PYTHONPATH"},
    }


def write(name, records, **conditions):
    """results/NAME.json with the machine, and the conditions of the run, beside the records."""
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**machine(), **conditions, "records": records}, indent=1) + "\n")
    print(f"wrote {path}")


def read(name):
    """The records of results/NAME.json, none where there is no such file."""
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text())["records"] if path.exists() else []

"""H. Our train step under what allocates its memory: glibc as it is, as our programs set it, and as
an environment may.

    python benchmarks/allocator.py
"""

import argparse

import measure
from step import CASES

# name: (GLIBC_TUNABLES, whether dalif_jax.runs.allocator sets the process)
SETTINGS = {
    "glibc's defaults": ("", False),
    "set by our programs": ("", True),
    "GLIBC_TUNABLES": (measure.ENVIRONMENT["GLIBC_TUNABLES"], False),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a network of the list")
    parser.add_argument("--rounds", type=int, default=5)
    arguments, conditions = measure.parse(parser)

    records = []
    for network, timesteps, size, channels, classes, batch, _ in CASES:
        if arguments.only not in ("", network):
            continue
        spec = {
            "kind": "step", "network": network, "timesteps": timesteps, "size": size,
            "channels": channels, "classes": classes, "batch": batch, "dtype": "float32",
            "dataset": "imagenet" if size == 224 else "cifar10",
        }  # fmt: skip
        sides = []
        for name, (tunables, kept) in SETTINGS.items():
            environment = {"GLIBC_TUNABLES": tunables, "BENCHMARK_KEEP_FREED": "1" * kept}
            sides.append(measure.Side(name, spec, environment=environment))
            sides[-1].prepare()
        timings = measure.alternate(sides, arguments.rounds, 4)
        record = {"network": network, "timesteps": timesteps, "batch": batch, "sides": {}}
        for side in sides:
            record["sides"][side.name] = timings[side.name] | side.peak()
            side.close()
        records.append(record)
        print(record, flush=True)
        measure.write("allocator_cpu", records, **conditions)


if __name__ == "__main__":
    main()

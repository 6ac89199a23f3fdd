"""A. Compile time, step time and planned memory of one layer over T, in chunks and in both others.

    PYTHONPATH=.:benchmarks python benchmarks/timesteps.py

Three neurons: DA-LIF, ALIF and one that a user wrote. Each runs in chunks (the default), written
out whole (unroll=T; the default before there were chunks) and as a loop of one timestep (unroll=1).
Every T moves about the same number of values. The written form is left out where it compiles for
minutes.
"""

import argparse
import time

import jax
import measure

from dalif_jax import neurons
from dalif_jax.ops import fused

TIMESTEPS = (4, 16, 32, 100, 300, 1000)
WRITTEN_UP_TO = {"dalif": 100, "alif": 32, "user": 32}
FORMS = ("chunks", "written out", "unroll=1")


def user_step(options, params, state, x):
    """A leak that is learned, and a soft reset."""
    h = jax.nn.sigmoid(params["leak"]) * state + x
    s = neurons.fire(options, h - options.threshold)
    return h - options.threshold * s, s


USER = neurons.Neuron(
    user_step,
    numbers=lambda options: {"leak": neurons.Number(0.5)},
    state=lambda options, x: neurons.zeros(x),
)


class Case(measure.InProcess):
    """One layer, forward and backward."""

    def __init__(self, name, timesteps, form, values):
        unroll = {"chunks": 0, "written out": timesteps, "unroll=1": 1}[form]
        # DA-LIF has no scan to unroll: its written form is its pass with one chunk, its loop the
        # scan that fused=False selects.
        loop = name == "dalif" and form == "unroll=1"
        options = neurons.options(name, unroll=unroll, fused=not loop)
        limit = fused.ONE_CHUNK_UP_TO
        fused.ONE_CHUNK_UP_TO = timesteps if form == "written out" else limit
        side = 32 if timesteps <= 128 else 16
        shape = (max(1, values // (timesteps * side * side * 64)), timesteps, side, side, 64)
        x, gradient = (jax.random.normal(k, shape) for k in jax.random.split(jax.random.key(0)))
        layer = neurons.SpikingNeuron(options)
        variables = layer.init(jax.random.key(1), x[:1, :, :1, :1], True)

        def both(variables, x, gradient):
            spikes, back = jax.vjp(lambda v, x: layer.apply(v, x, True), variables, x)
            return spikes, back(gradient)

        started = time.perf_counter()
        compiled = jax.jit(both).lower(variables, x, gradient).compile()
        self.compile_s = time.perf_counter() - started
        fused.ONE_CHUNK_UP_TO = limit
        self.temp_bytes = compiled.memory_analysis().temp_size_in_bytes
        self.x_bytes = x.nbytes
        super().__init__(form, lambda: jax.block_until_ready(compiled(variables, x, gradient)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--values", type=int, default=2**23, help="elements of x")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--timesteps", type=int, nargs="*", default=TIMESTEPS)
    parser.add_argument("--out", default="timesteps_cpu")
    arguments, conditions = measure.parse(parser)
    neurons.add("user", USER)
    records = []
    for name in ("dalif", "alif", "user"):
        for timesteps in arguments.timesteps:
            forms = [f for f in FORMS if f != "written out" or timesteps <= WRITTEN_UP_TO[name]]
            sides = [Case(name, timesteps, form, arguments.values) for form in forms]
            timings = measure.alternate(sides, arguments.rounds, 5)
            record = {"neuron": name, "timesteps": timesteps, "forms": {}}
            for side in sides:
                record["forms"][side.name] = timings[side.name] | {
                    "compile_s": side.compile_s, "temp_bytes": side.temp_bytes,
                    "x_bytes": side.x_bytes,
                }  # fmt: skip
            records.append(record)
            shown = {
                n: f"{r['compile_s']:.1f} s, {1e3 * r['median_s']:.1f} ms"
                for n, r in record["forms"].items()
            }
            print(name, timesteps, shown, flush=True)
    measure.write(arguments.out, records, jax=jax.__version__, **conditions)


if __name__ == "__main__":
    main()

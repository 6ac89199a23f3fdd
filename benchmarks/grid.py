"""D. Eight seeds of one small network: in one program (vmap, or written out) or one by one.

    python benchmarks/grid.py

On the digits' 8x8 images, where grids of seeds and decays are run on small machines.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import measure
import numpy as np
from input import images_of

from configs.base import get_config
from dalif_jax import training

SEEDS = 8


class Grid(measure.InProcess):
    """One step of every seed, by the given form."""

    def __init__(self, form, network, batch):
        config = get_config()
        config.model, config.batch_size, config.augment = network, batch, ()
        config.dataset = "digits"
        programs = []
        for seed in range(SEEDS):
            config.seed = seed
            mesh = training.make_mesh(jax.devices()[:1])
            programs.append(training.make_program(config, 1, mesh))
        states = tuple(program.init() for program in programs)
        images, labels = images_of(4 * batch)
        data = jax.device_put((images[:, :8, :8, :1], labels), programs[0].replicated)
        order = jax.device_put(np.arange(batch, dtype=np.int32)[None], programs[0].order_sharding)
        single = programs[0].train_step.__wrapped__
        started = time.perf_counter()
        if form == "vmap":
            self.states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
            whole = jax.jit(jax.vmap(single, (0, None, None, None)), donate_argnums=0)
        elif form == "one program":
            self.states = states
            whole = jax.jit(
                lambda states, *rest: tuple(zip(*(single(s, *rest) for s in states), strict=True)),
                donate_argnums=0,
            )
        else:
            self.states = states
            one = jax.jit(single, donate_argnums=0)
            one = one.lower(states[0], *data, order).compile()

            def whole(states, *rest):
                return tuple(zip(*(one(s, *rest) for s in states), strict=True))

        if form != "one by one":
            whole = whole.lower(self.states, *data, order).compile()
        self.compile_s = time.perf_counter() - started

        def step():
            self.states, metrics = whole(self.states, *data, order)
            jax.block_until_ready((self.states, metrics))

        super().__init__(f"{network} {form}", step)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", default="grid_cpu")
    arguments, conditions = measure.parse(parser)
    records = []
    for network in ("tiny", "mini"):
        sides = []
        for form in ("one by one", "vmap", "one program"):
            sides.append(Grid(form, network, arguments.batch))
            sides[-1].step()
            print(f"{sides[-1].name}: compiled in {sides[-1].compile_s:.0f} s", flush=True)
        for side, timing in zip(
            sides, measure.alternate(sides, arguments.rounds, 5).values(), strict=True
        ):
            records.append(
                {"name": side.name, "compile_s": side.compile_s, "seeds": SEEDS, **timing}
            )
            milliseconds = 1e3 * timing["median_s"]
            print(f"{side.name}: {milliseconds:.0f} ms a step of {SEEDS} seeds", flush=True)
    measure.write(arguments.out, records, **conditions)


if __name__ == "__main__":
    main()

"""C. Images per second of the input path against what a train step consumes.

    python benchmarks/input.py

The set lies on the device as uint8; gather, augmentation and normalisation run inside the step, so
the step is timed whole, with and without augmentation, and the augmentation by itself beside it.
"""

import argparse

import jax
import jax.numpy as jnp
import measure
import numpy as np

from configs.base import get_config
from dalif_jax import training
from dalif_jax.augment import augment

PAPER = ("crop", "flip", "autoaugment", "cutout")
LIGHT = ("crop", "flip")


class Timed(measure.InProcess):
    """A compiled function of fixed arguments."""

    def __init__(self, name, function, *arguments):
        compiled = jax.jit(function).lower(*arguments).compile()
        super().__init__(name, lambda: jax.block_until_ready(compiled(*arguments)))


class Step(measure.InProcess):
    """A whole train step with the given augmentation."""

    def __init__(self, name, network, batch, ops):
        config = get_config()
        config.model, config.batch_size, config.augment = network, batch, ops
        program = training.make_program(config, 1, training.make_mesh(jax.devices()[:1]))
        self.state = program.init()
        data = jax.device_put(images_of(4 * batch), program.replicated)
        order = jax.device_put(np.arange(batch, dtype=np.int32)[None], program.order_sharding)

        def step():
            self.state, metrics = program.train_step(self.state, *data, order)
            jax.block_until_ready((self.state, metrics))

        super().__init__(name, step)


def images_of(count):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    return images, draw.integers(0, 10, count).astype(np.int32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", default="input_cpu")
    arguments = parser.parse_args()
    batch = arguments.batch
    images = jnp.asarray(images_of(batch)[0])
    keys = jax.random.split(jax.random.key(0), batch)

    sides = [
        Timed(
            f"augmentation {' '.join(ops)}",
            lambda keys, images, ops=ops: jax.vmap(lambda k, x: augment(k, x, ops))(keys, images),
            keys,
            images,
        )
        for ops in (LIGHT, PAPER)
    ]
    for network in ("small", "resnet20"):
        for ops in ((), LIGHT, PAPER):
            sides.append(
                Step(f"step {network} T=2 {' '.join(ops) or 'plain'}", network, batch, ops)
            )
    records = []
    for name, timing in measure.alternate(sides, arguments.rounds, 2).items():
        records.append({"name": name, "images_per_second": batch / timing["median_s"], **timing})
        print(f"{name}: {records[-1]['images_per_second']:.0f} images/s")
    measure.write(arguments.out, records)


if __name__ == "__main__":
    main()

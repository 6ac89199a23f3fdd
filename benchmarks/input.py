"""C. Images per second of the input path against what a train step consumes.

    python benchmarks/input.py
    PYTHONPATH=. python tests/imagenet_files.py /tmp/imagenet
    python benchmarks/input.py --stream /tmp/imagenet

A CIFAR set lies on the device as uint8; gather, augmentation and normalisation run inside the step,
so the step is timed whole, with and without augmentation, and the augmentation by itself beside it.
ImageNet streams: --stream times reading, decoding and cropping to 224, on one core, then on all, in
threads and in processes, from a folder of the real layout.
"""

import argparse
import os
import statistics
import time

import jax
import jax.numpy as jnp
import measure
import numpy as np

from configs.base import get_config
from dalif_jax import training
from dalif_jax.data import sets
from dalif_jax.data.augment import augment
from dalif_jax.data.feed import feed_of

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
        given = jax.device_put(images_of(4 * batch), program.replicated)
        order = jax.device_put(np.arange(batch, dtype=np.int32)[None], program.order_sharding)

        def step():
            self.state, metrics = program.train_step(self.state, *given, order)
            jax.block_until_ready((self.state, metrics))

        super().__init__(name, step)


def images_of(count):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    return images, draw.integers(0, 10, count).astype(np.int32)


def stream(folder, rounds, conditions):
    """Images per second that reach the device, by cores, threads and processes."""
    if not hasattr(os, "sched_setaffinity"):
        raise SystemExit("--stream binds itself to cores, which Linux lets it and this system not")
    cores = sorted(os.sched_getaffinity(0))
    records = []
    for count, workers in [(1, 0), (len(cores), 0), (len(cores), len(cores))]:
        os.sched_setaffinity(0, cores[:count])
        config = get_config()
        config.update({"dataset": "imagenet", "model": "tiny", "timesteps": 1, "batch_size": 64})
        config.data_workers = workers
        split = sets.load("imagenet", folder, partial=True)["train"]
        # The same images over and over, as one long epoch: processes start once an epoch.
        split = split.pick(np.arange(10**5) % len(split))
        steps = len(split) // config.batch_size
        program = training.make_program(config, steps, training.make_mesh(jax.devices()[:1]))
        batches = feed_of(split, program, config, steps).train(0)
        for _ in range(4):
            jax.block_until_ready(next(batches)[:2])
        seconds = []
        for _ in range(rounds):
            started = time.perf_counter()
            for _ in range(8):
                jax.block_until_ready(next(batches)[:2])
            seconds.append(time.perf_counter() - started)
        rate = 8 * config.batch_size / statistics.median(seconds)
        batches.close()
        name = f"{count} cores, {f'{workers} processes' if workers else 'threads'}"
        mean = np.mean([len(split.records.example(i)["image"]) for i in range(100)])
        records.append(
            {"name": name, "cores": count, "processes": workers, "images_per_second": rate,
             "bytes_per_image": float(mean)}
        )  # fmt: skip
        print(f"{name}: {rate:.0f} images/s, files of {mean / 1e3:.0f} kB")
    measure.write("stream_cpu", records, **conditions)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", default="input_cpu")
    parser.add_argument("--stream", default="", help="a data_dir with imagenet2012")
    arguments, conditions = measure.parse(parser)
    if arguments.stream:
        stream(arguments.stream, arguments.rounds, conditions)
        return
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
    measure.write(arguments.out, records, **conditions)


if __name__ == "__main__":
    main()

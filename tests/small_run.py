"""A small run as a program and its data, without the command."""

import jax

from configs.base import get_config as base
from dalif_jax import training
from dalif_jax.data import sets


def config_of(**keys):
    config = base()
    config.update(
        {"model": "tiny", "dataset": "digits", "timesteps": 2, "epochs": 2, "batch_size": 32}
    )
    config.update({"augment": ("crop",), "crop_padding": 1, "eval_batch_size": 64, "seed": 1})
    config.update(keys)
    return config


class Run:
    """A program on some devices with its data, ready to step."""

    def __init__(self, config, devices):
        self.config = config
        self.splits = sets.load(config.dataset)
        n = len(self.splits["train"].labels)
        self.steps = sets.steps_per_epoch(n, config.batch_size)
        mesh = training.make_mesh(jax.devices()[:devices])
        self.program = training.make_program(config, self.steps, mesh)
        self.train = jax.device_put(tuple(self.splits["train"]), self.program.replicated)
        self.order = jax.jit(
            lambda epoch: sets.epoch_order(config.seed, epoch, n, config.batch_size),
            out_shardings=self.program.order_sharding,
        )
        self.state = self.program.init()

    def step(self, k):
        order = self.order(k // self.steps)
        self.state, metrics = self.program.train_step(self.state, *self.train, order)
        return metrics

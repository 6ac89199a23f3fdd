"""CIFAR-10 on two CPU cores: a small spiking ResNet, T = 2, Nesterov momentum, eight epochs.

    python train.py --config configs/cifar10_small.py --workdir runs/cifar10_small

Not of the paper: DA-LIF neurons and SGD as there, but 309 thousand weights behind a strided stem,
crop and flip alone, stronger weight decay and Nesterov momentum, for a short schedule. Expected:
test 73.41 (73.28 to 73.54) %, 2 seeds; with seed 0 73.54 %. Last epoch, 18 min a run, AMD EPYC, 2
cores, jax 0.12.0.1.
"""

from configs.base import get_config as base


def get_config():
    config = base()
    config.model = "small"
    config.dataset = "cifar10"
    config.timesteps = 2
    config.epochs = 8
    config.batch_size = 64
    config.learning_rate = 0.1
    config.warmup_epochs = 0.5
    config.nesterov = True
    config.weight_decay = 5e-4
    config.augment = ("crop", "flip")
    return config

"""CIFAR-10 on two CPU cores: a small spiking ResNet, T = 2, one cycle of Nesterov momentum.

python train.py --config configs/cifar10_small.py --workdir runs/cifar10_small
"""

from configs.base import get_config as base


def get_config():
    config = base()
    config.model = "small"
    config.dataset = "cifar10"
    config.timesteps = 2
    config.epochs = 10
    config.batch_size = 64
    config.learning_rate = 0.1
    config.warmup_epochs = 0.5
    config.nesterov = True
    config.weight_decay = 5e-4
    config.augment = ("crop", "flip")
    return config

"""CIFAR-10, VGG-16, T = 2 (Table I).

    python train.py --config configs/cifar10_vgg16.py --workdir runs/cifar10_vgg16

Expected: above MPBN's 93.96 %, which the paper says it exceeds. Best-epoch figure of 1000
epochs.
"""

from configs.base import get_config as base


def get_config():
    config = base()
    config.model = "vgg16"
    config.dataset = "cifar10"
    config.timesteps = 2
    return config

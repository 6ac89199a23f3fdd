"""CIFAR-10 in twenty minutes on two CPU cores: `cifar10_fast` for eight epochs.

    python train.py --config configs/cifar10_small.py --workdir runs/cifar10_small

Not of the paper, but its neuron.
"""

from configs.cifar10_fast import get_config as fast


def get_config():
    config = fast()
    config.epochs = 8
    config.crop_padding = 2
    return config

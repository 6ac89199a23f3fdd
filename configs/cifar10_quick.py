"""CIFAR-10 in ten minutes on two CPU cores: `cifar10_fast` for four epochs.

    python train.py --config configs/cifar10_quick.py --workdir runs/cifar10_quick

Not of the paper, but its neuron.
"""

from configs.cifar10_fast import get_config as fast


def get_config():
    config = fast()
    config.epochs = 4
    config.augment = ("crop", "flip")
    config.crop_padding = 2
    config.eval_every = 4
    return config

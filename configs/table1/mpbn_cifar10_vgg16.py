"""MPBN (ICCV 2023): CIFAR-10, VGG-16, T = 2 (Table I).

    python train.py --config configs/table1/mpbn_cifar10_vgg16.py --workdir runs/mpbn_cifar10_vgg16

Published: 93.96 %. Not run here. All of it as in the authors' public code.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "mpbn")
    config.model = "vgg16"
    config.dataset = "cifar10"
    config.timesteps = 2
    config.epochs = 400
    return config

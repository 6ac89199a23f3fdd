"""PLIF (ICCV 2021): CIFAR-10, PLIFNet, T = 8.

    python train.py --config configs/authors/plif_cifar10.py --workdir runs/plif_cifar10

Published: no figure in the tables. Not run here. Network, neuron and recipe are those of the
authors' public code.
"""

from configs.systems import any_neuron
from configs.table2.plif_cifar10dvs import get_config as cifar10dvs


@any_neuron
def get_config():
    config = cifar10dvs()
    config.model = "plifnet_cifar10"
    config.dataset = "cifar10"
    config.frame_size = 0
    config.timesteps = 8
    config.augment = ("crop", "flip")
    return config

r"""MPBN (ICCV 2023): CIFAR-100, VGG-16, T = 2 (Table I).

    python train.py --config configs/table1/mpbn_cifar100_vgg16.py \
        --workdir runs/mpbn_cifar100_vgg16

Published: 73.88 %. Not run here. All of it as in the authors' public code.
"""

from configs.systems import any_neuron
from configs.table1.mpbn_cifar10_vgg16 import get_config as cifar10


@any_neuron
def get_config():
    config = cifar10()
    config.dataset = "cifar100"
    return config

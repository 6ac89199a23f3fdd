r"""MPBN (ICCV 2023): CIFAR-100, VGG-16, T = 2 (Table I).

    python train.py --config configs/table1/mpbn_cifar100_vgg16.py \
        --workdir runs/mpbn_cifar100_vgg16

Published: 73.88 %. Not run here. All of it as in the authors' public code.
"""

from configs.base import get_config as base
from configs.systems import pieces


def get_config():
    config = pieces(base(), "mpbn")
    config.model = "vgg16"
    config.dataset = "cifar100"
    config.timesteps = 2
    config.epochs = 400
    return config

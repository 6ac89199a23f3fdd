"""CIFAR-100, ResNet-20 (Table I; Fig. 2 by `--config.neuron=baseline` and the other arms).

    python train.py --config configs/cifar100_r20.py --workdir runs/cifar100_r20

Expected: 72.07 % at T = 2, which is MPBN's 70.79 % plus the paper's gain of 1.28 (IV-B); above
MPBN's 72.30 % at T = 4. Table III needs `--config.membrane_bn=True --config.timesteps=4`."""

from configs.base import get_config as base


def get_config():
    config = base()
    config.model = "resnet20"
    config.dataset = "cifar100"
    config.timesteps = 2
    config.zero_init_residual = True  # as in MPBN's modified ResNet-20
    return config

"""CIFAR-100, ResNet-19 (Table I). T is 1, 2 or 4: `--config.timesteps`.

    python train.py --config configs/cifar100_r19.py --workdir runs/cifar100_r19

Expected: 80.59 % is the paper's best CIFAR-100 figure (abstract and IV-B), taken to be this network
at T = 4; at T = 2 it reports more than MPBN's 79.51 %. Best-epoch figures of 1000 epochs."""

from configs.base import get_config as base


def get_config():
    config = base()
    config.model = "resnet19"
    config.dataset = "cifar100"
    config.timesteps = 4
    return config

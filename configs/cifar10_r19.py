"""CIFAR-10, ResNet-19 (Table I). T is 1, 2 or 4: `--config.timesteps`.

    python train.py --config configs/cifar10_r19.py --workdir runs/cifar10_r19

Expected: 96.72 % is the paper's best CIFAR-10 figure (abstract and IV-B), taken to be this network
at T = 4; at T = 2 it reports more than MPBN's 96.47 %. Both are best-epoch figures of 1000 epochs.
Batch, weight decay, schedule and augmentation are the MPBN lineage's, the paper names none."""

from configs.base import get_config as base


def get_config():
    config = base()
    config.model = "resnet19"
    config.dataset = "cifar10"
    config.timesteps = 4
    return config

"""PFA (2024): CIFAR-100, ResNet-19, T = 4 (Table I).

    python train.py --config configs/table1/pfa_cifar100_r19.py --workdir runs/pfa_cifar100_r19

Published: 78.10 %, with T = 2 76.70 % (--config.timesteps=2). Not run here. As pfa_cifar10_r19.py:
the placement in ResNet-19, the rank and the recipe are choices of ours.
"""

from configs.systems import any_neuron
from configs.table1.pfa_cifar10_r19 import get_config as cifar10


@any_neuron
def get_config():
    config = cifar10()
    config.dataset = "cifar100"
    return config

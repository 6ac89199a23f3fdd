"""TET (ICLR 2022): CIFAR-100, ResNet-19, T = 4 (Table I).

    python train.py --config configs/table1/tet_cifar100_r19.py --workdir runs/tet_cifar100_r19

Published: 74.47 %, with T = 2 72.87 % (--config.timesteps=2). Not run here. Loss, neuron and
network are those of the authors' public code; 300 epochs are the paper's, the optimizer is inferred
from its code for event cameras.
"""

from configs.systems import any_neuron
from configs.table1.tet_cifar10_r19 import get_config as cifar10


@any_neuron
def get_config():
    config = cifar10()
    config.dataset = "cifar100"
    return config

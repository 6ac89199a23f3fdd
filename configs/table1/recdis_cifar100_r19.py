r"""RecDis-SNN (CVPR 2022): CIFAR-100, ResNet-19, T = 4 (Table I).

    python train.py --config configs/table1/recdis_cifar100_r19.py \
        --workdir runs/recdis_cifar100_r19

Published: 74.10 %. Not run here. A stand-in: the loss is not the published formula, which is not
public (losses.recdis_membrane). Neuron and recipe are those of the authors' other code, its epochs
ours.
"""

from configs.systems import any_neuron
from configs.table1.recdis_cifar10_r19 import get_config as cifar10


@any_neuron
def get_config():
    config = cifar10()
    config.dataset = "cifar100"
    return config

"""RecDis-SNN (CVPR 2022): CIFAR-10, ResNet-19, T = 4 (Table I).

    python train.py --config configs/table1/recdis_cifar10_r19.py --workdir runs/recdis_cifar10_r19

Published: 95.53 %. Not run here. A stand-in: the loss is not the published formula, which is not
public (losses.recdis_membrane). Neuron and recipe are those of the authors' other code, its epochs
ours.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "recdis")
    config.model = "resnet19"
    config.dataset = "cifar10"
    config.timesteps = 4
    config.epochs = 400
    config.augment = ("crop", "flip")
    return config

"""MLF (IJCAI 2022): CIFAR-10, DS-ResNet-20, T = 4.

    python train.py --config configs/authors/mlf_cifar10_ds20.py --workdir runs/mlf_cifar10_ds20

Published: no figure in the tables. Not run here. Network, neuron, norm and recipe are those of the
authors' public code.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "mlf")
    config.model = "ds_resnet20"
    config.dataset = "cifar10"
    config.timesteps = 4
    config.epochs = 110
    config.batch_size = 64
    config.schedule = "step"
    config.schedule_epochs = 40
    config.augment = ("crop", "flip")
    return config

"""TET (ICLR 2022): CIFAR-10, ResNet-19, T = 4 (Table I).

    python train.py --config configs/table1/tet_cifar10_r19.py --workdir runs/tet_cifar10_r19

Published: 94.44 %, with T = 2 94.16 % (--config.timesteps=2). Not run here. Loss, neuron and
network are those of the authors' public code; 300 epochs are the paper's, the optimizer is inferred
from its code for event cameras.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "tet")
    config.model = "resnet19"
    config.dataset = "cifar10"
    config.timesteps = 4
    config.epochs = 300
    config.optimizer = "adam"
    config.learning_rate = 1e-3
    config.weight_decay = 0.0
    config.augment = ("crop", "flip")
    config.model_options.stem = ((3, 64, 1),)
    config.model_options.hidden = 256
    config.model_options.hidden_neuron = True
    return config

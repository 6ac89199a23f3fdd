"""GLIF (NeurIPS 2022): CIFAR-10, ResNet-19, T = 4 (Table I).

    python train.py --config configs/table1/glif_cifar10_r19.py --workdir runs/glif_cifar10_r19

Published: 94.85 %, with T = 2 94.44 % (--config.timesteps=2). Not run here. Neuron, norm and recipe
are those of the authors' public code; whether its weight decay is on the norms too is not said
here: it is not.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "glif")
    config.model = "resnet19"
    config.dataset = "cifar10"
    config.timesteps = 4
    config.epochs = 200
    config.batch_size = 64
    config.weight_decay = 4e-5
    config.augment = ("crop", "flip")
    config.model_options.hidden = 256
    config.model_options.head_bias = False
    return config

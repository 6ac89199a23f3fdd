"""GLIF (NeurIPS 2022): CIFAR-100, ResNet-19, T = 4 (Table I).

    python train.py --config configs/table1/glif_cifar100_r19.py --workdir runs/glif_cifar100_r19

Published: 77.05 %, with T = 2 75.48 % (--config.timesteps=2). Not run here. Neuron, norm and recipe
are those of the authors' public code; whether its weight decay is on the norms too is not said
here: it is not.
"""

from configs.systems import any_neuron
from configs.table1.glif_cifar10_r19 import get_config as cifar10


@any_neuron
def get_config():
    config = cifar10()
    config.dataset = "cifar100"
    del config.model_options.hidden
    return config

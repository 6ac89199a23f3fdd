"""Diet-SNN (TNNLS 2021): CIFAR-100, ResNet-20, T = 5 (Table I).

    python train.py --config configs/table1/diet_cifar100_r20.py --workdir runs/diet_cifar100_r20

Published: 64.07 %. Not run here. Neuron, network and recipe are those of the authors' public code,
which starts from a trained network of rectified units: train one with --config.neuron=relu
--config.timesteps=1, make its thresholds with convert.py --to diet, and name that card in
--config.init_from.
"""

from configs.systems import any_neuron
from configs.table1.diet_cifar10_r20 import get_config as cifar10


@any_neuron
def get_config():
    config = cifar10()
    config.dataset = "cifar100"
    return config

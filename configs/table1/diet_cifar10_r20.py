"""Diet-SNN (TNNLS 2021): CIFAR-10, ResNet-20, T = 5 (Table I).

    python train.py --config configs/table1/diet_cifar10_r20.py --workdir runs/diet_cifar10_r20

Published: 91.78 %. Not run here. Neuron, network and recipe are those of the authors' public code,
which starts from a trained network of rectified units: train one with --config.neuron=relu
--config.timesteps=1, make its thresholds with convert.py --to diet, and name that card in
--config.init_from.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "diet")
    config.model = "resnet20"
    config.dataset = "cifar10"
    config.timesteps = 5
    config.epochs = 300
    config.batch_size = 64
    config.learning_rate = 1e-4
    config.schedule = "cosine_past_end"
    config.schedule_epochs = 128
    config.augment = ("crop", "flip")
    config.model_options.flatten = True
    config.model_options.integrate = True
    config.model_options.head_bias = False
    config.model_options.pooled_shortcut = False
    config.model_options.dropout = 0.2
    return config

r"""PFA (2024): CIFAR10-DVS, VGG, T = 12.

    python train.py --config configs/authors/pfa_cifar10dvs.py --workdir runs/pfa_cifar10dvs \
        --config.data_dir=...

Published: no figure in the tables. Not run here. Network, attention and loss are those of the
authors' public code, whose augmentation, also of the validation half, is here flip and one
operation of NDA.
"""

from configs.base import get_config as base
from configs.systems import any_neuron


@any_neuron
def get_config():
    config = base()
    config.model = "vggsnn"
    config.dataset = "cifar10dvs"
    config.frame_size = 48
    config.resize = "area"
    config.timesteps = 12
    config.neuron = "lif"
    config.alpha = 0.5
    config.beta = 0.5
    config.surrogate = "arctan"
    config.detach_reset = True
    config.attention = "pfa"
    config.loss = "mse"
    config.optimizer = "adam"
    config.weight_decay = 0.0
    config.learning_rate = 1e-4
    config.schedule = "step"
    config.schedule_epochs = 30
    config.epochs = 200
    config.batch_size = 32
    config.augment = ("flip", "nda")
    config.model_options.conv_bias = False
    config.model_options.pool_attention = True
    config.model_options.head_neuron = True
    return config

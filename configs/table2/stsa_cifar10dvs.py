r"""STSA (IJCAI 2023): CIFAR10-DVS, STS-Transformer, T = 16 (Table II).

    python train.py --config configs/table2/stsa_cifar10dvs.py --workdir runs/stsa_cifar10dvs \
        --config.data_dir=...

Published: 79.93 %. Not run here. The authors' public code is for DVS128 Gesture alone: its network
with ten classes, its loss and its recipe are taken here.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "tet")
    config.model = "sts_transformer"
    config.dataset = "cifar10dvs"
    config.frame_size = 128
    config.timesteps = 16
    config.loss_options.weight = 0.001
    config.epochs = 1000
    config.batch_size = 32
    config.optimizer = "adamw"
    config.learning_rate = 1e-2
    config.augment = ("roll",)
    return config

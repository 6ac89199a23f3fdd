r"""SEW-ResNet (NeurIPS 2021): CIFAR10-DVS, 7B-wideNet, T = 16.

    python train.py --config configs/authors/sew_cifar10dvs_widenet.py \
        --workdir runs/sew_cifar10dvs_widenet --config.data_dir=...

Published: 74.40 %, the best epoch's. Not run here. Network, neuron and recipe are those of the
authors' public code and log.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "plif")
    config.model = "widenet_7b"
    config.dataset = "cifar10dvs"
    config.frame_size = 128
    config.timesteps = 16
    config.epochs = 64
    config.batch_size = 16
    config.learning_rate = 0.01
    config.weight_decay = 0.0
    config.augment = ()
    return config

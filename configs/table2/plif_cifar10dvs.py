r"""PLIF (ICCV 2021): CIFAR10-DVS, PLIFNet, T = 20 (Table II).

    python train.py --config configs/table2/plif_cifar10dvs.py --workdir runs/plif_cifar10dvs \
        --config.data_dir=...

Published: 74.80 %, the best epoch's; the last epoch of the authors' log has 72.20 %. Not run here.
Network, neuron and recipe are those of the authors' public code; its cosine of 64 epochs swings for
1024.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "plif")
    config.model = "plifnet_dvs"
    config.dataset = "cifar10dvs"
    config.frame_size = 128
    config.timesteps = 20
    config.loss = "mse"
    config.optimizer = "adam"
    config.weight_decay = 0.0
    config.learning_rate = 1e-3
    config.schedule = "cosine_past_end"
    config.schedule_epochs = 64
    config.epochs = 1024
    config.batch_size = 16
    config.augment = ()
    return config

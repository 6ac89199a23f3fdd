r"""MPBN (ICCV 2023): CIFAR10-DVS, ResNet-20, T = 10 (Table II).

    python train.py --config configs/table2/mpbn_cifar10dvs_r20.py \
        --workdir runs/mpbn_cifar10dvs_r20 --config.data_dir=...

Published: 78.70 %. Not run here. As mpbn_cifar10dvs_r19.py, whose recipe is TET's for this data
set.
"""

from configs.systems import any_neuron
from configs.table2.mpbn_cifar10dvs_r19 import get_config as r19


@any_neuron
def get_config():
    config = r19()
    config.model = "resnet20"
    config.zero_init_residual = True  # as in MPBN's modified ResNet-20
    return config

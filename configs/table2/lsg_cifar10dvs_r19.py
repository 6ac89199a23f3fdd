r"""LSG (IJCAI 2023): CIFAR10-DVS, ResNet-19, T = 10 (Table II).

    python train.py --config configs/table2/lsg_cifar10dvs_r19.py \
        --workdir runs/lsg_cifar10dvs_r19 --config.data_dir=...

Published: 77.90 %. Not run here. How its authors fed and trained it is not public: frames,
optimizer and epochs are those of TET's public code for this data set.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, fed_as_tet, pieces


@any_neuron
def get_config():
    config = fed_as_tet(pieces(base(), "lsg"))
    config.model = "resnet19"
    return config

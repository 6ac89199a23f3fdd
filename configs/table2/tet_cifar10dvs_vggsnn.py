r"""TET (ICLR 2022): CIFAR10-DVS, VGGSNN, T = 10 (Table II).

    python train.py --config configs/table2/tet_cifar10dvs_vggsnn.py \
        --workdir runs/tet_cifar10dvs_vggsnn --config.data_dir=...

Published: 77.30 %. Not run here. Network, loss, neuron and recipe are those of the authors' public
code: ten frames of equally many events, each over its largest count as an image of 8 bits and 48 x
48 pixels.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, fed_as_tet, pieces


@any_neuron
def get_config():
    config = fed_as_tet(pieces(base(), "tet"))
    config.model = "vggsnn"
    config.loss_options.weight = 0.001
    return config

r"""MPBN (ICCV 2023): ImageNet, ResNet-18, T = 4 (Table I).

    python train.py --config configs/table1/mpbn_imagenet_r18.py \
        --workdir runs/mpbn_imagenet_r18 --config.data_dir=...

Published: 63.14 %. Not run here. Neuron and norm as in the authors' public code; its recipe for
ImageNet is not public, this one is ours.
"""

from configs.systems import any_neuron
from configs.table1.mpbn_imagenet_r34 import get_config as resnet34


@any_neuron
def get_config():
    config = resnet34()
    config.model = "resnet18"
    return config

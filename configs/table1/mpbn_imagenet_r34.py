r"""MPBN (ICCV 2023): ImageNet, ResNet-34, T = 4 (Table I).

    python train.py --config configs/table1/mpbn_imagenet_r34.py \
        --workdir runs/mpbn_imagenet_r34 --config.data_dir=...

Published: 64.71 %. Not run here. Neuron and norm as in the authors' public code; its recipe for
ImageNet is not public, this one is ours.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "mpbn")
    config.model = "resnet34"
    config.dataset = "imagenet"
    config.timesteps = 4
    config.epochs = 320
    config.batch_size = 256
    config.augment = ("flip",)  # after the random resized crop to 224, part of decoding
    config.dtype = "bfloat16"
    return config

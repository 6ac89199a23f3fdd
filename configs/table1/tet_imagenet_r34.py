r"""TET (ICLR 2022): ImageNet, ResNet-34, T = 6 (Table I).

    python train.py --config configs/table1/tet_imagenet_r34.py \
        --workdir runs/tet_imagenet_r34 --config.data_dir=...

Published: 64.79 %. Not run here. Loss and neuron are those of the authors' public code, 120 epochs
the paper's, optimizer and batch ours.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "tet")
    config.model = "resnet34"
    config.dataset = "imagenet"
    config.timesteps = 6
    config.epochs = 120
    config.batch_size = 256
    config.augment = ("flip",)  # after the random resized crop to 224, part of decoding
    config.loss_options.weight = 0.001
    config.dtype = "bfloat16"
    return config

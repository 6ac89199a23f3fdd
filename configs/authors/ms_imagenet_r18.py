r"""MS-ResNet (TNNLS 2024): ImageNet, MS-ResNet-18, T = 6.

    python train.py --config configs/authors/ms_imagenet_r18.py --workdir runs/ms_imagenet_r18 \
        --config.data_dir=...

Published: no figure in the tables. Not run here. Network, neuron and recipe are those of the
authors' public code, which augments by AutoAugment for ImageNet, here not at hand: crops and flips
alone.
"""

from configs.base import get_config as base
from configs.systems import any_neuron


@any_neuron
def get_config():
    config = base()
    config.model = "ms_resnet18"
    config.dataset = "imagenet"
    config.timesteps = 6
    config.dtype = "bfloat16"
    config.neuron = "lif"
    config.threshold = 0.5
    config.detach_reset = True
    config.epochs = 125
    config.batch_size = 256
    config.weight_decay = 1e-5
    config.label_smoothing = 0.1
    config.augment = ()
    return config

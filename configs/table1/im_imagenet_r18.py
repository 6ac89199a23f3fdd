r"""IM-Loss (NeurIPS 2022): ImageNet, ResNet-18, T = 6 (Table I).

    python train.py --config configs/table1/im_imagenet_r18.py \
        --workdir runs/im_imagenet_r18 --config.data_dir=...

Published: 67.43 %. Not run here. Loss and evolving surrogate by secondary reports, one of which
says ResNet-34; the recipe is ours.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "im")
    config.model = "resnet18"
    config.dataset = "imagenet"
    config.timesteps = 6
    config.epochs = 320
    config.batch_size = 256
    config.augment = ("flip",)  # after the random resized crop to 224, part of decoding
    config.dtype = "bfloat16"
    return config

r"""RecDis-SNN (CVPR 2022): ImageNet, ResNet-34, T = 6 (Table I).

    python train.py --config configs/table1/recdis_imagenet_r34.py \
        --workdir runs/recdis_imagenet_r34 --config.data_dir=...

Published: 67.33 %. Not run here. A stand-in: the loss is not the published formula, which is not
public (losses.recdis_membrane). Neuron and recipe are those of the authors' other code, its epochs
ours.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "recdis")
    config.model = "resnet34"
    config.dataset = "imagenet"
    config.timesteps = 6
    config.epochs = 320
    config.batch_size = 256
    config.augment = ("flip",)  # after the random resized crop to 224, part of decoding
    config.dtype = "bfloat16"
    return config

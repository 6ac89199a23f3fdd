r"""GLIF (NeurIPS 2022): ImageNet, ResNet-34, T = 4 (Table I).

    python train.py --config configs/table1/glif_imagenet_r34.py \
        --workdir runs/glif_imagenet_r34 --config.data_dir=...

Published: 67.52 %. Not run here. Neuron and norm are those of the authors' public code; so are
epochs, batch and rates of its ImageNet script, its weight decay taken from the one for CIFAR.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "glif")
    config.model = "resnet34"
    config.dataset = "imagenet"
    config.timesteps = 4
    config.epochs = 150
    config.batch_size = 400  # 50 on each of 8 GPUs
    config.weight_decay = 4e-5
    config.augment = ("flip",)  # after the random resized crop to 224, part of decoding
    config.neuron_options.gate_rate = 1.0
    config.dtype = "bfloat16"
    return config

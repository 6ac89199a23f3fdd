r"""Att-MS-ResNet (MA-SNN, TPAMI 2023): ImageNet, MS-ResNet-18 with CSA, T = 1.

    python train.py --config configs/authors/attms_imagenet_r18.py \
        --workdir runs/attms_imagenet_r18 --config.data_dir=...

Published: no figure in the tables. Not run here. Network and attention are those of the authors'
public code, the recipe is MS-ResNet's with 250 epochs; with ms_resnet34, or ms_resnet104 and its
stem of 7 x 7 without bias, the others.
"""

from configs.authors.ms_imagenet_r18 import get_config as r18
from configs.systems import any_neuron


@any_neuron
def get_config():
    config = r18()
    config.timesteps = 1
    config.detach_reset = False
    config.attention = "ma"
    config.attention_options.axes = "CS"
    config.model_options.pooled_shortcut = True
    config.model_options.last_scale = 0.1
    config.epochs = 250
    return config

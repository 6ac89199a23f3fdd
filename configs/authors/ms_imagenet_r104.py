r"""MS-ResNet (TNNLS 2024): ImageNet, MS-ResNet-104, T = 5.

    python train.py --config configs/authors/ms_imagenet_r104.py --workdir runs/ms_imagenet_r104 \
        --config.data_dir=...

Published: 76.02 %. Not run here. As ms_imagenet_r18.py; T is the paper's.
"""

from configs.authors.ms_imagenet_r18 import get_config as r18
from configs.systems import any_neuron


@any_neuron
def get_config():
    config = r18()
    config.model = "ms_resnet104"
    config.timesteps = 5
    return config

r"""MS-ResNet (TNNLS 2024): ImageNet, MS-ResNet-34, T = 6.

    python train.py --config configs/authors/ms_imagenet_r34.py --workdir runs/ms_imagenet_r34 \
        --config.data_dir=...

Published: no figure in the tables. Not run here. As ms_imagenet_r18.py.
"""

from configs.authors.ms_imagenet_r18 import get_config as r18
from configs.systems import any_neuron


@any_neuron
def get_config():
    config = r18()
    config.model = "ms_resnet34"
    return config

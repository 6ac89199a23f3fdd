r"""SEW-ResNet (NeurIPS 2021): ImageNet, SEW-ResNet-34, T = 4.

    python train.py --config configs/authors/sew_imagenet_r34.py --workdir runs/sew_imagenet_r34 \
        --config.data_dir=...

Published: 67.04 %, the best epoch's; the last epoch of the authors' log has 66.66 %. Not run here.
As sew_imagenet_r18.py.
"""

from configs.authors.sew_imagenet_r18 import get_config as r18
from configs.systems import any_neuron


@any_neuron
def get_config():
    config = r18()
    config.model = "sew_resnet34"
    return config

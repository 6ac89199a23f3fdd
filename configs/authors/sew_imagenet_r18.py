r"""SEW-ResNet (NeurIPS 2021): ImageNet, SEW-ResNet-18, T = 4.

    python train.py --config configs/authors/sew_imagenet_r18.py --workdir runs/sew_imagenet_r18 \
        --config.data_dir=...

Published: 63.18 %, the best epoch's; the last epoch of the authors' log has 62.81 %. Not run here.
Network, neuron and recipe are those of the authors' public code and log.
"""

from configs.base import get_config as base
from configs.systems import any_neuron


@any_neuron
def get_config():
    config = base()
    config.model = "sew_resnet18"
    config.dataset = "imagenet"
    config.timesteps = 4
    config.dtype = "bfloat16"
    config.neuron = "lif"
    config.alpha = 1.0
    config.beta = 1.0
    config.surrogate = "arctan"
    config.detach_reset = True
    config.epochs = 320
    config.batch_size = 256
    config.weight_decay = 0.0
    config.augment = ()
    return config

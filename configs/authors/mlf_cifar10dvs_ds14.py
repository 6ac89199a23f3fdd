r"""MLF (IJCAI 2022): CIFAR10-DVS, DS-ResNet-14, T = 10.

    python train.py --config configs/authors/mlf_cifar10dvs_ds14.py \
        --workdir runs/mlf_cifar10dvs_ds14 --config.data_dir=...

Published: no figure in the tables. Not run here. Network, neuron, norm and recipe are those of the
authors' public code.
"""

from configs.authors.mlf_gesture_ds20 import get_config as gesture
from configs.systems import any_neuron


@any_neuron
def get_config():
    config = gesture()
    config.model = "ds_resnet14"
    config.model_options.widths = (32, 64, 128)
    config.dataset = "cifar10dvs"
    config.frame_size = 42
    config.timesteps = 10
    config.frame_ms = 10.0
    config.epochs = 100
    config.batch_size = 32
    config.weight_decay = 1e-3
    return config

r"""STSA (IJCAI 2023): DVS128 Gesture, STS-Transformer, T = 10.

    python train.py --config configs/authors/stsa_gesture.py --workdir runs/stsa_gesture \
        --config.data_dir=...

Published: no figure in the tables. Not run here. Network, loss and recipe are those of the authors'
public code; its reshape mixes time, channels and examples, here tokens are what the paper says.
"""

from configs.systems import any_neuron
from configs.table2.stsa_cifar10dvs import get_config as cifar10dvs


@any_neuron
def get_config():
    config = cifar10dvs()
    config.dataset = "dvsgesture"
    config.frame_size = 0
    config.timesteps = 10
    return config

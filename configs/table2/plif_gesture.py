r"""PLIF (ICCV 2021): DVS128 Gesture, PLIFNet, T = 20 (Table II).

    python train.py --config configs/table2/plif_gesture.py --workdir runs/plif_gesture \
        --config.data_dir=...

Published: 97.57 %, the best epoch's; the last epoch of the authors' log has 94.44 %. Not run here.
Network, neuron and recipe are those of the authors' public code; its cosine of 64 epochs swings for
1024.
"""

from configs.systems import any_neuron
from configs.table2.plif_cifar10dvs import get_config as cifar10dvs


@any_neuron
def get_config():
    config = cifar10dvs()
    config.model = "plifnet_gesture"
    config.dataset = "dvsgesture"
    config.frame_size = 0
    return config

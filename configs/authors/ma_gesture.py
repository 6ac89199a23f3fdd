r"""MA-SNN (TPAMI 2023): DVS128 Gesture, three convolutions, T = 60, attention TCS.

    python train.py --config configs/authors/ma_gesture.py --workdir runs/ma_gesture \
        --config.data_dir=...

Published: the paper's 98.23 % has T = 20 (configs/table2/ma_gesture_plifnet.py). Not run here.
Network, neuron, attention and recipe are those of the authors' public code.
"""

from configs.authors.ta_gesture import get_config as ta
from configs.systems import any_neuron


@any_neuron
def get_config():
    config = ta()
    config.attention = "ma"
    config.epochs = 300
    config.batch_size = 128
    return config

r"""LIAF with TA (TA-SNN, ICCV 2021): DVS128 Gesture, TA-SNN-Net, T = 60 (Table II).

    python train.py --config configs/table2/liaf_ta_gesture.py --workdir runs/liaf_ta_gesture \
        --config.data_dir=...

Published: 98.61 %, by a leaderboard. Not run here. Network, neuron, attention and recipe are those
of the authors' public code: trained on a random run of 60 frames, tested on ten runs of each
recording, right where more than half are. How long a frame lasted is not said: 25 ms is MA-SNN's.
"""

from configs.authors.ta_gesture import get_config as ta
from configs.systems import any_neuron


@any_neuron
def get_config():
    config = ta()
    config.neuron = "analog"
    return config

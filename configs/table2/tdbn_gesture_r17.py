r"""STBP-tdBN (AAAI 2021): DVS128 Gesture, ResNet-17, T = 40 (Table II).

    python train.py --config configs/table2/tdbn_gesture_r17.py --workdir runs/tdbn_gesture_r17 \
        --config.data_dir=...

Published: 96.87 %, by a table of another paper. Not run here. Its layers are not public: the
network is a guess of ours with 11.23 of its 11.18 million parameters. Frames of 30 ms from the
start, 32 x 32, and the recipe are those that MLF's public code takes.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "tdbn")
    config.model = "resnet17"
    config.dataset = "dvsgesture"
    config.frame_size = 32
    config.timesteps = 40
    config.split_by = "time"
    config.frame_ms = 30.0
    config.epochs = 120
    config.batch_size = 28
    config.schedule = "step"
    config.schedule_epochs = 40
    config.augment = ()
    return config

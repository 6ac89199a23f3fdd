r"""SEW-ResNet (NeurIPS 2021): DVS128 Gesture, 7B-Net, T = 16 (Table II).

    python train.py --config configs/table2/sew_gesture_7b.py --workdir runs/sew_gesture_7b \
        --config.data_dir=...

Published: 97.92 %, the best epoch's; the last epoch of the authors' log has 96.88 %. Not run here.
Network, neuron and recipe are those of the authors' public code and log: each step trains on 12 of
the 16 frames.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "plif")
    config.model = "net_7b"
    config.dataset = "dvsgesture"
    config.timesteps = 16
    config.train_timesteps = 12
    config.zero_init_residual = True
    config.epochs = 192
    config.batch_size = 16
    config.learning_rate = 1e-3
    config.weight_decay = 0.0
    config.schedule = "step"
    config.schedule_epochs = 64
    config.augment = ()
    return config

r"""TA-SNN (ICCV 2021): DVS128 Gesture, three convolutions, T = 60.

    python train.py --config configs/authors/ta_gesture.py --workdir runs/ta_gesture \
        --config.data_dir=...

Published: no figure in the tables; its LIAF mode has 98.61 % (configs/table2/liaf_ta_gesture.py).
Not run here. Network, neuron, attention and recipe are those of the authors' public code; 25 ms a
frame is MA-SNN's.
"""

from configs.base import get_config as base
from configs.systems import any_neuron


@any_neuron
def get_config():
    config = base()
    config.model = "three_conv"
    config.dataset = "dvsgesture"
    config.frame_size = 32
    config.timesteps = 60
    config.split_by = "time"
    config.frame_ms = 25.0
    config.test_slices = 10
    config.neuron = "residue"
    config.threshold = 0.3
    config.surrogate_width = 0.5
    config.attention = "ta"
    config.loss = "mse"
    config.optimizer = "adam"
    config.weight_decay = 0.0
    config.learning_rate = 1e-4
    config.schedule = "plateau"
    config.schedule_epochs = 5
    config.epochs = 100
    config.batch_size = 16
    config.eval_batch_size = 8
    config.augment = ()
    return config

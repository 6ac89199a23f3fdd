r"""MA-SNN (TPAMI 2023): DVS128 Gesture, five layers, T = 20 (Table II).

    python train.py --config configs/table2/ma_gesture_plifnet.py \
        --workdir runs/ma_gesture_plifnet --config.data_dir=...

Published: 98.23 %. Not run here. Which network of five layers gave it is not public: here PLIFNet,
the likelier by name and T, with the attention of the authors' public code on every current, and
that code's recipe. Its network of three convolutions: configs/authors/ma_gesture.py.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "plif")
    config.model = "plifnet_gesture"
    config.model_options.norm_per_step = False  # that code's norms see all timesteps together
    config.dataset = "dvsgesture"
    config.timesteps = 20
    config.attention = "ma"
    config.loss = "mse"
    config.optimizer = "adam"
    config.weight_decay = 0.0
    config.learning_rate = 1e-4
    config.schedule = "plateau"
    config.schedule_epochs = 5
    config.epochs = 300
    config.batch_size = 16
    config.augment = ()
    return config

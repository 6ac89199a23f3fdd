r"""ASA-SNN (ICCV 2023): DVS128 Gesture, five layers, T = 20 (Table II).

    python train.py --config configs/table2/asa_gesture_plifnet.py \
        --workdir runs/asa_gesture_plifnet --config.data_dir=...

Published: 97.70 %. Not run here. Network, attention and recipe are those of the authors' public
code, in which the cells that a batch attends to are the union of its examples': here each example
has its own.
"""

from configs.systems import any_neuron
from configs.table2.ma_gesture_plifnet import get_config as ma


@any_neuron
def get_config():
    config = ma()
    config.detach_reset = False
    config.attention = "asa"
    config.learning_rate = 1e-3
    config.schedule = "cosine"
    config.schedule_epochs = 0
    config.epochs = 200
    config.batch_size = 8
    config.model_options.head_bias = True
    config.model_options.dropout = (0.0, 0.0)
    return config

r"""ASA-SNN (ICCV 2023): DVS128 Gesture, three convolutions, T = 60.

    python train.py --config configs/authors/asa_gesture.py --workdir runs/asa_gesture \
        --config.data_dir=...

Published: 95.2 %, without attention 91.3 %. Not run here. Network, neuron, attention and recipe are
those of the authors' public code, but that each example has its own cells to attend to.
"""

from configs.authors.ta_gesture import get_config as ta
from configs.systems import any_neuron


@any_neuron
def get_config():
    config = ta()
    config.frame_ms = 15.0
    config.neuron = "lif"
    config.alpha = 1.0
    config.beta = 0.3
    config.attention = "asa"
    config.attention_options.reduction = 4
    config.weight_decay = 1e-4
    config.epochs = 200
    config.batch_size = 32
    config.model_options.head_norm = False
    config.model_options.dropout = 0.1
    return config

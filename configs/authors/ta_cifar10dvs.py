r"""TA-SNN (ICCV 2021): CIFAR10-DVS, five convolutions, T = 10.

    python train.py --config configs/authors/ta_cifar10dvs.py --workdir runs/ta_cifar10dvs \
        --config.data_dir=...

Published: no figure in the tables. Not run here. Network, neuron and attention are those of the
authors' public code, the recipe is that of its DVS128 Gesture with frames by number.
"""

from configs.authors.ta_gesture import get_config as ta
from configs.systems import any_neuron


@any_neuron
def get_config():
    config = ta()
    config.model = "five_conv"
    config.dataset = "cifar10dvs"
    config.frame_size = 128
    config.timesteps = 10
    config.split_by = "number"
    config.frame_ms = 0.0
    config.test_slices = 0
    config.surrogate_width = 1.0
    config.attention_options.reduction = 5
    config.eval_batch_size = 64
    return config

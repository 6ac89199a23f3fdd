"""Handwritten digits of scikit-learn, a network of 77 thousand weights: the first run to try.

    python train.py --config configs/digits.py --workdir runs/digits

Not of the paper, but its neuron and optimizer. The 1,797 images come with scikit-learn; there is no
official split, so every fifth of the first 1,437 is the test set, and the last 360, by writers the
training part has not seen, are measured beside it. Expected: test 97.63 (96.52 to 98.26) %, unseen
writers 96.67 (95.83 to 97.22) %, 5 seeds; with seed 3407 98.61 % and 97.50 %. Last epoch, 4 min a
run, AMD EPYC, 2 cores, jax 0.12.0.1.
"""

from configs.base import get_config as base


def get_config():
    config = base()
    config.model = "mini"
    config.dataset = "digits"
    config.timesteps = 4
    config.epochs = 80
    config.batch_size = 64
    config.weight_decay = 5e-4
    config.warmup_epochs = 1.0
    config.augment = ("crop",)
    config.crop_padding = 1
    config.log_every = 10
    return config

r"""N-MNIST, real recordings of an event camera before moving digits; trains on what is there of it.

    python train.py --config configs/nmnist.py --workdir runs/nmnist \
        --config.data_dir=...

Not of the paper: a small network, for two CPU cores and a part of the 60,000 recordings; measured
with the 1,000 of the lowest numbers in Train/ to train on. Expected: test 97.00 % of 100 (Wilson's
95 % interval 91.5 to 99.0), one seed; with seed 0 97.00 %. Last epoch, 7 min a run, AMD EPYC, 2
cores, jax 0.12.0.1.
"""

from configs.base import get_config as base


def get_config():
    config = base()
    config.model = "small"
    config.dataset = "nmnist"
    config.partial_data = True
    config.timesteps = 6
    config.epochs = 40
    config.batch_size = 40
    config.weight_decay = 5e-4
    config.warmup_epochs = 1.0
    config.nesterov = True
    config.augment = ("roll",)
    config.roll_pixels = 2
    config.log_every = 25
    return config

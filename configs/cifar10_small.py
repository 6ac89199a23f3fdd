"""CIFAR-10 in twenty-one minutes on two CPU cores: `cifar10_quick` for eight epochs.

    python train.py --config configs/cifar10_small.py --workdir runs/cifar10_small

Not of the paper, but its neuron. Expected: test 90.04 (89.64 to 90.54) %, test by the mean of
mirrored views 90.98 (90.84 to 91.05) %, 3 seeds; with seed 0 89.93 % and 90.84 %. Last epoch, 21
min a run, AMD EPYC, 2 cores, jax 0.12.0.1.
"""

from configs.cifar10_quick import get_config as quick


def get_config():
    config = quick()
    config.epochs = 8
    config.eval_every = 8
    return config

"""CIFAR-10 in twenty minutes on two CPU cores: `cifar10_quick` for eight epochs.

    python train.py --config configs/cifar10_small.py --workdir runs/cifar10_small

Not of the paper, but its neuron. Expected: test 89.30 % of 10,000 (Wilson's 95 % interval 88.7 to
89.9), test by the mean of mirrored views 90.30 %, one seed; with seed 0 89.30 % and 90.30 %. Last
epoch, 20 min a run, AMD EPYC, 2 cores, jax 0.12.0.1.
"""

from configs.cifar10_quick import get_config as quick


def get_config():
    config = quick()
    config.epochs = 8
    config.eval_every = 8
    return config

"""CIFAR-10 in an hour at most on two CPU cores: `cifar10_quick` for 14 epochs.

    python train.py --config configs/cifar10_fast.py --workdir runs/cifar10_fast

Not of the paper, but its neuron. So many epochs want more against learning by heart: wider crops
and a small hole of the mean colour. Expected: test 90.57 (90.33 to 90.82) %, test by the mean of
mirrored views 91.51 (91.35 to 91.69) %, 3 seeds; with seed 0 90.57 % and 91.48 %. Last epoch, 36
min a run, AMD EPYC, 2 cores, jax 0.12.0.1.
"""

from configs.cifar10_quick import get_config as quick


def get_config():
    config = quick()
    config.epochs = 14
    config.augment = ("crop", "alternate_flip", "cutout")
    config.crop_padding = 4
    config.cutout_size = 8
    config.cutout_fill = "mean"
    config.eval_every = 7
    return config

"""CIFAR-10 in eleven minutes on two CPU cores: a VGG of six convolutions, T = 1, four epochs.

    python train.py --config configs/cifar10_quick.py --workdir runs/cifar10_quick

Not of the paper, but its neuron. Found by measurement, for few epochs rather than for many: Muon
for the kernels (optax), a surrogate that reaches further, one cycle of the learning rate, smoothed
labels, a little weight decay, bfloat16; spikes go past the convolutions that keep the shape. Each
image is mirrored in every other epoch, and its small crops do not darken a batch. `cifar10_small`
is the same in 21 minutes, `cifar10_fast` more of it in an hour at most; with `--config.timesteps=2`
half of the epochs take as long. Expected: test 87.95 (87.75 to 88.16) %, test by the mean of
mirrored views 88.82 (88.78 to 88.84) %, 3 seeds; with seed 0 87.75 % and 88.78 %. Last epoch, 11
min a run, AMD EPYC, 2 cores, jax 0.12.0.1.
"""

from configs.base import get_config as base


def get_config():
    config = base()
    config.model = "fast"
    config.model_options.shortcuts = True
    config.dataset = "cifar10"
    config.timesteps = 1
    config.surrogate = "triangle"
    config.dtype = "bfloat16"
    config.epochs = 4
    config.batch_size = 256
    config.optimizer = "muon"
    config.learning_rate = 0.04
    config.schedule = "onecycle"
    config.nesterov = True
    config.weight_decay = 0.03
    config.label_smoothing = 0.1
    config.augment = ("crop", "alternate_flip")
    config.crop_padding = 2
    config.crop_border = "reflect"
    config.eval_every = 4  # an evaluation takes as long as 20 steps
    config.mirrored_views = True
    return config

"""CIFAR-10 in an hour on two CPU cores (being found)."""

from configs.base import get_config as base


def get_config():
    config = base()
    config.model = "fast"
    config.dataset = "cifar10"
    config.timesteps = 1
    config.epochs = 3
    config.batch_size = 125
    config.optimizer = "muon"
    config.learning_rate = 0.02
    config.schedule = "onecycle"
    config.nesterov = True
    config.label_smoothing = 0.1
    config.augment = ("crop", "flip")
    config.crop_padding = 2
    config.dtype = "bfloat16"
    return config

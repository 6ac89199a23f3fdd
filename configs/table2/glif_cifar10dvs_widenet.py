r"""GLIF (NeurIPS 2022): CIFAR10-DVS, 7B-wideNet, T = 16 (Table II).

    python train.py --config configs/table2/glif_cifar10dvs_widenet.py \
        --workdir runs/glif_cifar10dvs_widenet --config.data_dir=...

Published: 78.10 %, the best epoch's; the last epoch of the authors' log has 76.7 %. Not run here.
Network, neuron and recipe are those of the authors' public code; its cosine reaches 0 after 64 of
200 epochs and rises again.
"""

from configs.base import get_config as base
from configs.systems import any_neuron


@any_neuron
def get_config():
    config = base()
    config.model = "widenet_7b_glif"
    config.dataset = "cifar10dvs"
    config.frame_size = 48
    config.resize = "bilinear"
    config.timesteps = 16
    config.neuron = "glif"
    config.per_channel = True
    config.neuron_options.tau = 0.5
    config.neuron_options.v = 0.99999
    config.neuron_options.leak = 0.99999 / 32
    config.neuron_options.gain = 0.9
    config.epochs = 200
    config.batch_size = 32
    config.learning_rate = 0.01
    config.weight_decay = 0.0
    config.schedule = "cosine_past_end"
    config.schedule_epochs = 64
    config.augment = ("crop",)
    return config

"""ImageNet, ResNet-34, T = 4 (Table I).

    python train.py --config configs/imagenet_r34.py --workdir runs/r34 --config.data_dir=...

Expected: 70.58 % is the paper's best ImageNet figure (abstract and IV-B), taken to be this network.
Epochs and learning rate are the paper's; batch, weight decay and mixed precision are those of
SEW-ResNet's published log with the same 320 epochs, 0.1 and 8 GPUs."""

from configs.base import get_config as base


def get_config():
    config = base()
    config.model = "resnet34"
    config.dataset = "imagenet"
    config.timesteps = 4
    config.epochs = 320
    config.batch_size = 256  # 32 on each of 8 GPUs
    config.weight_decay = 0.0
    config.augment = ("flip",)  # after the random resized crop to 224, part of decoding
    config.dtype = "bfloat16"
    return config

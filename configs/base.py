"""What every recipe in this folder starts from: all keys, declared in `dalif_jax/settings/keys.py`.

A recipe is a file beside this one that starts from `get_config()` and overrides a few keys; any key
can be set on the command line too, after `--config`:

    python train.py --config configs/cifar10_r20.py --workdir runs/x --config.timesteps=4
"""

from dalif_jax.settings.keys import get_config

__all__ = ["get_config"]

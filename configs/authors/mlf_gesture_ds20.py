r"""MLF (IJCAI 2022): DVS128 Gesture, DS-ResNet-20, T = 40.

    python train.py --config configs/authors/mlf_gesture_ds20.py --workdir runs/mlf_gesture_ds20 \
        --config.data_dir=...

Published: no figure in the tables. Not run here. Network, neuron, norm and recipe are those of the
authors' public code.
"""

from configs.base import get_config as base
from configs.systems import any_neuron, pieces


@any_neuron
def get_config():
    config = pieces(base(), "mlf")
    config.model = "ds_resnet20_gesture"
    config.dataset = "dvsgesture"
    config.frame_size = 32
    config.timesteps = 40
    config.split_by = "time"
    config.frame_ms = 30.0
    config.epochs = 120
    config.batch_size = 28
    config.schedule = "step"
    config.schedule_epochs = 40
    config.augment = ()
    return config

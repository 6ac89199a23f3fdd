"""Every compared network for event cameras on simulated events, small enough for two cores.

    python train.py --config configs/event_systems.py:three_conv_ta --workdir runs/three_conv_ta

Each is a line of SYSTEMS: network, neuron, attention, loss and optimizer, on the digits before a
simulated camera (configs/digits_dvs.py), frames resized to what the network takes. What differs
from the published network for want of pixels or time, fewer pools or narrower layers, stands in the
line; configs/table1/ and configs/table2/ have the recipes. docs/systems.md says what was measured.
"""

from configs.digits_dvs import get_config as digits_dvs
from configs.systems import told
from dalif_jax.suggest import did_you_mean

PLIF = {"neuron": "plif", "surrogate": "arctan", "detach_reset": True}
TET = {"neuron": "lif", "beta": 0.5, "surrogate": "triangle"}
CELL = {"neuron": "residue", "threshold": 0.3, "surrogate_width": 0.5}
# Few epochs are to do: small batches.
ADAM = {"optimizer": "adam", "learning_rate": 2e-3, "weight_decay": 0.0, "batch_size": 16}
RATES = {"loss": "mse", "optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 0.0}
TDBN = {"neuron": "lif", "threshold": 0.5, "norm": "tdbn"}
# Without the pools that 16 pixels have no room for; the second half as wide.
SEW_7 = ADAM | {"model": "net_7b", "model_options": {"blocks": ((32, 1),) * 3 + ((32, 2),) * 4}}
NARROW_7 = {"blocks": ((16, 1),) * 3 + ((16, 2),) * 4}
WIDE_7 = {"blocks": ((32, 1),) * 3 + ((32, 2),) + ((64, 2),) * 3}
# Half as wide, but for TA's.
THREE = RATES | {"model": "three_conv", "model_options": {"layers": ((32, 1), (64, 2), (64, 2))}}
PLIFNET = PLIF | RATES | {
    "model": "plifnet_gesture", "frame_size": 32, "resize": "bilinear", "batch_size": 16,
    "model_options": {"norm_per_step": False},  # as measured; the authors' code has True
}  # fmt: skip
NARROW = {"layers": (64, "P") * 5, "norm_per_step": False}
VGG = {"layers": (32, 64, "P", 128, 128, "P", 256, 256, "P", 256, 256, "P")}
# Its stem without a stride, three stages, half as wide.
MS = ADAM | {
    "model": "ms_resnet18", "neuron": "lif", "threshold": 0.5, "detach_reset": True,
    "model_options": {
        "stem": ((3, 32, 1),), "widths": (32, 64, 128), "blocks": (2, 2, 2), "strides": (1, 2, 2),
    },
}  # fmt: skip

SYSTEMS = {
    "sew_7b": PLIF | SEW_7,
    "sew_7b_and": PLIF | SEW_7 | {"model_options": NARROW_7 | {"join": "and"}},
    "sew_7b_iand": PLIF | SEW_7 | {"model_options": NARROW_7 | {"join": "iand"}},
    "sew_widenet": PLIF | ADAM | {"model": "widenet_7b", "model_options": WIDE_7},
    "glif_widenet": ADAM | {
        "model": "widenet_7b_glif", "neuron": "glif", "per_channel": True, "model_options": WIDE_7,
    },
    "ms_resnet": MS,
    "attms_resnet": MS | {
        "attention": "ma", "attention_options": {"axes": "CS"},
        "model_options": MS["model_options"] | {"pooled_shortcut": True, "last_scale": 0.1},
    },
    "mlf_dsresnet": {
        "model": "ds_resnet20_gesture", "neuron": "mlf", "threshold": 0.6, "norm": "tdbn",
        "norm_options": {"summed_scale": 1.0, "epsilon_outside": True},
    },
    "tdbn_resnet17": TDBN | ADAM | {
        "model": "resnet17", "model_options": {"widths": (32, 64, 128, 256), "stem": ((3, 32, 1),)},
    },
    "tet_vggsnn": TET | {
        "model": "vggsnn", "loss": "tet", "loss_options": {"weight": 0.001}, "optimizer": "adam",
        "learning_rate": 1e-3, "weight_decay": 0.0,
        "model_options": VGG,
    },
    "pfa_vgg": RATES | ADAM | {
        "model": "vggsnn", "neuron": "lif", "alpha": 0.5, "beta": 0.5, "surrogate": "arctan",
        "detach_reset": True, "attention": "pfa",
        "model_options": VGG | {
            "conv_bias": False, "pool_attention": True, "head_neuron": True,
        },
    },
    "plifnet": PLIFNET,
    "plifnet_dvs": PLIFNET | {"model": "plifnet_dvs", "frame_size": 16, "resize": "sum"},
    "ma_plifnet": PLIFNET | {
        "attention": "ma", "attention_options": {"time_reduction": 2}, "model_options": NARROW,
    },
    "asa_plifnet": PLIFNET | {
        "attention": "asa",
        "model_options": NARROW | {"head_bias": True, "dropout": (0.0, 0.0)},
    },
    "three_conv": THREE | CELL,
    "three_conv_ta": THREE | CELL | {
        "attention": "ta", "attention_options": {"reduction": 2}, "model_options": {},
    },
    "three_conv_ma": THREE | CELL | {"attention": "ma", "attention_options": {"time_reduction": 2}},
    "three_conv_asa": THREE | {
        "neuron": "lif", "alpha": 1.0, "beta": 0.3, "threshold": 0.3, "surrogate_width": 0.5,
        "attention": "asa",
        "model_options": THREE["model_options"] | {"head_norm": False, "dropout": 0.1},
    },
    "three_conv_liaf": THREE | CELL | {"neuron": "analog"},
    "three_conv_liaf_ta": THREE | CELL | {
        "neuron": "analog", "attention": "ta", "attention_options": {"reduction": 2},
    },
    "five_conv_ta": CELL | RATES | {
        "model": "five_conv", "frame_size": 64, "resize": "bilinear", "attention": "ta",
        "attention_options": {"reduction": 2}, "model_options": {
            "layers": ((16, 2), (32, 2), (64, 2), (128, 2), (256, 4)),
        },
    },
    "sts_transformer": TET | {
        "model": "sts_transformer", "frame_size": 32, "resize": "bilinear", "loss": "tet",
        "loss_options": {"weight": 0.001}, "optimizer": "adamw", "learning_rate": 1e-2,
        "weight_decay": 1e-4,
    },
    "dalif_7b": SEW_7,
}  # fmt: skip


def get_config(name="three_conv_ta"):
    if name not in SYSTEMS:
        raise ValueError(
            f"no system {name!r}; known: {', '.join(SYSTEMS)}" + did_you_mean(name, SYSTEMS)
        )
    return told(digits_dvs(), SYSTEMS[name])

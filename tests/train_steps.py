"""One train step of named cases in float64, written as arrays: what two compilers must agree on.

    python tests/train_steps.py OUT.npz [CASE ...]

Nothing of it is compared with the past: test_compiler.py runs it with two settings of the compiler.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from configs.base import get_config
from dalif_jax import training
from dalif_jax.data import sets
from dalif_jax.losses import LOSSES
from dalif_jax.neurons import NEURONS
from dalif_jax.norms import NORMS
from dalif_jax.runs import compiler
from dalif_jax.surrogates import SURROGATES

SMALL = {"model": "tiny", "dataset": "digits"}
CASES = {
    # Every network on the smallest input that all its pools leave something of.
    "tiny": SMALL,
    "mini": {"model": "mini", "dataset": "digits"},
    "small": {"model": "small"},
    "resnet18": {"model": "resnet18", "dataset": "imagenet", "frame_size": 32},
    "resnet34": {"model": "resnet34", "dataset": "imagenet", "frame_size": 32},
    "resnet19": {"model": "resnet19"},
    "resnet20": {"model": "resnet20"},
    "vgg16": {"model": "vgg16"},
    "vgg11": {"model": "vgg11", "dataset": "dvsgesture", "frame_size": 32},
    "fast": SMALL | {"model": "fast"},
    "vggsnn": SMALL | {"model": "vggsnn", "model_options": {"layers": (6, "P", 8, "P")}},
    "resnet17": SMALL | {"model": "resnet17", "model_options": {"widths": (6, 8, 8, 8)}},
    **{
        name: SMALL | {"model": name, "model_options": {"blocks": (1, 1), "widths": (6, 8)}}
        for name in ("sew_resnet18", "sew_resnet34")
    },
    **{
        name: SMALL | {"model": name, "model_options": {"blocks": ((6, 2), (8, 2))}}
        for name in ("net_7b", "widenet_7b", "widenet_7b_glif")
    },
    **{
        name: SMALL
        | {
            "model": name,
            "model_options": {
                "blocks": (1, 1),
                "widths": (6, 8),
                "strides": (2, 2),
                "stem": ((3, 6, 1),),
            },
        }
        for name in ("ms_resnet18", "ms_resnet34", "ms_resnet104")
    },
    **{
        name: SMALL
        | {"model": name, "model_options": {"n": 1, "widths": (6, 8), "strides": (1, 2)}}
        for name in ("ds_resnet14", "ds_resnet20", "ds_resnet32", "ds_resnet20_gesture")
    },
    **{
        name: SMALL
        | {
            "model": name,
            "loss": "mse",
            "model_options": {"layers": (8, "P", 8, "P"), "hidden": 12},
        }
        for name in ("plifnet_gesture", "plifnet_dvs", "plifnet_cifar10")
    },
    **{
        name: SMALL
        | {
            "model": name,
            "loss": "mse",
            "model_options": {"layers": ((6, 1), (8, 2)), "hidden": 12},
        }
        for name in ("three_conv", "five_conv")
    },
    "sts_transformer": SMALL | {"model": "sts_transformer", "model_options": {"widths": (6, 8)}},
    **{
        f"attention={name}": SMALL | {"attention": name, "attention_options": options}
        for name, options in (
            ("ta", {"reduction": 1}),
            ("ma", {"time_reduction": 1}),
            ("asa", {}),
            ("pfa", {}),
        )
    },
    # Every neuron, every surrogate, every form and setting that computes something of its own.
    **{f"neuron={name}": SMALL | {"neuron": name} for name in NEURONS},
    **{
        f"loss={name}": SMALL
        | {"loss": name, "model_options": {"moderate_dropout": 0.2 if loss.second else 0.0}}
        for name, loss in LOSSES.items()
    },
    **{f"norm={name}": SMALL | {"norm": name} for name in NORMS},
    "dropout, two layers at the end": SMALL | {"model_options": {"dropout": 0.2, "hidden": 12}},
    "a width that changes": SMALL | {"surrogate_width_end": 0.5},
    **{f"surrogate={name}": SMALL | {"surrogate": name} for name in SURROGATES},
    "membrane_bn": SMALL | {"membrane_bn": True},
    "per_channel": SMALL | {"per_channel": True},
    "detach_reset": SMALL | {"detach_reset": True},
    "the plain scan": SMALL | {"fused": False},
    "sixteen timesteps": SMALL | {"timesteps": 16},
    "accumulate": SMALL | {"accumulate": 2},
    "rematerialize": SMALL | {"rematerialize": "on"},
    "mixup, smoothing, averaging": SMALL | {"mixup": 0.2, "label_smoothing": 0.1, "ema_decay": 0.9},
    "sigmoid decays": SMALL | {"decay_function": "sigmoid"},
}


def drawn(shapes, draw):
    """A TrainState of such shapes at its start, by NumPy: compiling XLA's normals takes longest."""

    def start(path, leaf):
        name = path[-1].key
        if name == "kernel":
            scale = (2.0 / np.prod(leaf.shape[:-1])) ** 0.5
            return draw.normal(0.0, scale, leaf.shape).astype(leaf.dtype)
        # Attention's own arrays, whatever they are called: of more than one axis.
        if leaf.ndim > 1 and name not in ("c", "norm_scale", "norm_bias"):
            return draw.normal(0.0, 0.3, leaf.shape).astype(leaf.dtype)
        ones = ("scale", "var", "norm_scale", "norm_var", "a", "b", "k", "threshold", "V", "sign",
                "leak", "alpha")  # fmt: skip
        return np.full(leaf.shape, float(name in ones), leaf.dtype)

    params = jax.tree_util.tree_map_with_path(start, shapes.params)
    return training.TrainState(
        step=np.zeros((), np.int32),
        params=params,
        batch_stats=jax.tree_util.tree_map_with_path(start, shapes.batch_stats),
        opt_state=jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes.opt_state),
        ema=None if shapes.ema is None else params,
    )


def train_step(keys):
    """{path: array} of the state after one step (its momentum is the gradient) and the metrics."""
    config = get_config()
    with config.unlocked():
        config.update({"dtype": "float64", "timesteps": 2, "batch_size": 4, "augment": (), **keys})
    program = training.make_program(config, 1, training.make_mesh(jax.devices()[:1]))
    spec = sets.spec(config.dataset, config.frame_size)
    draw = np.random.default_rng(0)
    shape = (config.timesteps, *spec.shape) if spec.events else spec.shape
    images = draw.integers(0, 8 if spec.events else 256, (config.batch_size, *shape), np.uint8)
    labels = draw.integers(0, spec.classes, config.batch_size, np.int32)
    order = None if spec.streamed else jnp.arange(config.batch_size, dtype=jnp.int32)[None]
    state = drawn(jax.eval_shape(program.init), draw)
    state, metrics = program.train_step(state, images, labels, order)
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path((state, metrics))
    }


def main(out, *names):
    jax.config.update("jax_enable_x64", True)
    found = {}
    for name in names or CASES:
        found |= {f"{name} {path}": leaf for path, leaf in train_step(CASES[name]).items()}
        print(name, flush=True)
    # The sums known to be wrong: the networks of today do not contain them, tomorrow's may.
    for dtype, rows in ((np.float32, 32_769), (np.float64, 16_385)):
        found[f"known sums, {np.dtype(dtype)}"] = compiler.known_sums(rows, dtype)[0]
    np.savez(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])

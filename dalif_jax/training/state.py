"""What a run carries from step to step, where it lies, and how fast it learns."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType

# Streams of randomness drawn from the seed; 2 is sets.ORDER.
INIT, AUGMENT, MIXUP, DROPOUT = 0, 1, 3, 4


@flax.struct.dataclass
class TrainState:
    """Everything a run needs to continue, besides its config."""

    step: jax.Array  # int32, steps taken
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any  # averaged params, or None


def make_mesh(devices=None):
    """A mesh with the one axis `data` over all devices, or the given ones."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)


def seed_key(seed, stream):
    """The key of one stream of randomness; the implementation is pinned, for exact repeats."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), stream)


def make_schedule(config, steps_per_epoch):
    """Learning rate as a function of the step: one value per optimizer step, never per epoch.

    `cosine_past_end` is what some authors' code does: a cosine that reaches 0 after
    `schedule_epochs` and is followed past its end, where it rises again, and so on.

    A scalar in float32, or float64 where that is switched on.
    """
    total = config.epochs * steps_per_epoch
    # Rounding leaves the decay a step: a warm-up is shorter than the run.
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total - 1)
    if config.schedule == "onecycle":
        curve, warmup = optax.cosine_onecycle_schedule(total, config.learning_rate), 0
    elif config.schedule == "constant":
        curve = optax.constant_schedule(config.learning_rate)
    elif config.schedule == "step":
        every = config.schedule_epochs * steps_per_epoch
        curve = optax.exponential_decay(
            config.learning_rate, every, config.schedule_factor, staircase=True
        )
        if warmup:
            curve = _later(curve, warmup)  # falls are counted from the run's start
    elif config.schedule == "cosine_past_end":
        half = config.schedule_epochs * steps_per_epoch
        curve = _past_end(config.learning_rate, half)
        if warmup:
            curve = _later(curve, warmup)
    else:
        curve = optax.cosine_decay_schedule(config.learning_rate, total - warmup)
    if warmup:
        rise = optax.linear_schedule(0.0, config.learning_rate, warmup)
        curve = optax.join_schedules([rise, curve], [warmup])

    def schedule(step):
        # An int32 step divided by a number is float32 in JAX, also where float64 is switched on.
        wide = jnp.result_type(float)
        return jnp.asarray(curve(jnp.asarray(step, wide)), wide)

    return schedule


def _later(curve, warmup):
    return lambda step: curve(step + warmup)


def _past_end(rate, half):
    return lambda step: 0.5 * rate * (1.0 + jnp.cos(jnp.pi * step / half))


def weights_only(params):
    """Mask: True on kernels and biases of convolutions and linear layers, False on the neurons'
    numbers and the norms' scale and bias."""
    if "kernel" in params:
        return dict.fromkeys(params, True)
    return {
        name: weights_only(value) if isinstance(value, dict) else False
        for name, value in params.items()
    }


def make_optimizer(config, schedule, numbers=None):
    """SGD with momentum, or one of Adam's kind; weight decay is added to the gradient before, with
    adamw to the step.

    Args:
      numbers: {layer: {name: neurons.Number}}, whose learning rates and decay are as each says.
    """
    numbers = numbers or {}

    def decayed(params):
        return _said(params, numbers, weights_only(params), lambda number: number.decayed)

    mask = None if config.weight_decay_all else decayed
    if config.optimizer == "adamw":
        steps = [optax.adamw(schedule, weight_decay=config.weight_decay, mask=mask)]
    else:
        steps = [optax.add_decayed_weights(config.weight_decay, mask=mask)]
        steps += [
            optax.sgd(schedule, momentum=config.momentum, nesterov=config.nesterov)
            if config.optimizer == "sgd" else {"adam": optax.adam, "amsgrad": optax.amsgrad}[
                config.optimizer](schedule)
        ]  # fmt: skip
    rates = {number.rate for layer in numbers.values() for number in layer.values()}
    for rate in sorted(rates - {1.0}):

        def slower(params, rate=rate):
            none = jax.tree.map(lambda _: False, params)
            return _said(params, numbers, none, lambda number: number.rate == rate)

        steps.append(optax.masked(optax.scale(rate), slower))
    return optax.chain(*steps)


def _said(params, numbers, otherwise, word, path=()):
    """What neurons' numbers say, True or False a leaf, and `otherwise` of all other parameters."""
    own = numbers.get("/".join(path), {})
    return {
        name: _said(value, numbers, otherwise[name], word, (*path, name))
        if isinstance(value, dict)
        else word(own[name]) if name in own else otherwise[name]
        for name, value in params.items()
    }  # fmt: skip


def abstract_state(program):
    """The TrainState's shapes, dtypes and shardings, for restoring into."""
    shapes = jax.eval_shape(program.init)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=program.replicated),
        shapes,
    )


# ---- Numbers that stopped being numbers.


def finite(tree):
    """bool [leaves] in the order of the tree: whether every value of a leaf is a number."""
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack(leaves) if leaves else jnp.ones(0, bool)


def first_not_finite(flags, state, layers):
    """Where a step stopped being finite.

    Args:
      flags: the step's metrics["finite"], on the host.
      state: a TrainState, for the names.
      layers: the names of all layers in the order they run.
    Returns:
      "running statistics of LAYER", the first in the order of the forward pass; else "gradient of
      LAYER", the first of the backward pass, which runs from the last layer to the first; else
      None.
    """

    def reached(kind, tree, order):
        for path, is_finite in zip(
            jax.tree_util.tree_leaves_with_path(tree), flags[kind], strict=True
        ):
            if not is_finite:
                name = "/".join(key.key for key in path[0])
                yield max((i, layer) for i, layer in enumerate(order) if name.startswith(layer))

    for kind, tree, order in (
        ("running statistics", state.batch_stats, layers),
        ("gradient", state.params, layers[::-1]),
    ):
        if found := sorted(reached(kind, tree, order)):
            return f"{kind} of {found[0][1]}"
    return None

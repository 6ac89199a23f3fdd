"""What a step does to the parameters: schedules, optimizers, what neurons say of their numbers."""

import jax
import jax.numpy as jnp
import optax

from dalif_jax import neurons
from dalif_jax.analysis import summary
from dalif_jax.settings.config import neuron_options


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
    elif config.schedule in ("constant", "plateau"):
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


def schedule_change(before, now, step, steps_per_epoch):
    """A line about a learning rate that jumps because a resumed run has another config; or None.

    Args:
      before, now: the configs, for example with more epochs.
      step: the last step that was trained.
    """
    old, new = (float(make_schedule(each, steps_per_epoch)(step)) for each in (before, now))
    if old == new:
        return None
    change = "raises" if new > old else "lowers"
    return (
        f"epochs={now.epochs} instead of {before.epochs} moves the {now.schedule} schedule: after "
        f"step {step} it {change} the learning rate from {old:.4g} to {new:.4g}"
    )


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


def make_optimizer(config, schedule, numbers=None, steps_per_epoch=1):
    """SGD with momentum, one of Adam's kind, or Muon; weight decay is added to the gradient before,
    with adamw and muon to the step. With schedule=plateau the rate falls by a factor once
    `schedule_epochs` + 1 epochs in a row have not lowered the training loss by a ten thousandth, as
    PyTorch's does.

    Muon (Jordan et al. 2024; its scale as Liu et al., arXiv 2502.16982) makes the momentum of a
    convolution's kernel, as a matrix [k k C, O], orthogonal: 0.2 times the root of the longer side
    of it moves as far as Adam would at the same rate. All other parameters are Adam's.

    Args:
      numbers: {layer: {name: neurons.Number}}, whose learning rates and decay are as each says.
    """
    numbers = numbers or {}

    def decayed(params):
        return _said(params, numbers, weights_only(params), lambda number: number.decayed)

    mask = None if config.weight_decay_all else decayed
    if config.optimizer == "adamw":
        steps = [optax.adamw(schedule, weight_decay=config.weight_decay, mask=mask)]
    elif config.optimizer == "muon":
        steps = [
            optax.contrib.muon(
                1.0, beta=config.momentum, nesterov=config.nesterov, consistent_rms=0.2,
                muon_weight_dimension_numbers=_matrices,
            ),
            # Its own decay asks for a mask of parts of the parameters.
            optax.add_decayed_weights(-config.weight_decay, mask),
            optax.scale_by_schedule(schedule),
        ]  # fmt: skip
    else:
        if config.optimizer == "sgd":
            step = optax.sgd(schedule, momentum=config.momentum, nesterov=config.nesterov)
        else:
            step = {"adam": optax.adam, "amsgrad": optax.amsgrad}[config.optimizer](schedule)
        steps = [optax.add_decayed_weights(config.weight_decay, mask=mask), step]
    rates = {number.rate for layer in numbers.values() for number in layer.values()}
    for rate in sorted(rates - {1.0}):

        def slower(params, rate=rate):
            none = jax.tree.map(lambda _: False, params)
            return _said(params, numbers, none, lambda number: number.rate == rate)

        steps.append(optax.masked(optax.scale(rate), slower))
    if config.schedule == "plateau":
        steps.append(
            optax.contrib.reduce_on_plateau(
                config.schedule_factor, config.schedule_epochs + 1, rtol=1e-4,
                accumulation_size=steps_per_epoch,
            )
        )  # fmt: skip
    return optax.with_extra_args_support(optax.chain(*steps))


def _matrices(params):
    """How Muon sees each parameter: a convolution's kernel as a matrix [k k C, O], others not."""
    matrix = optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
    return jax.tree.map(lambda p: matrix if p.ndim == 4 else None, params)


def fallen(opt_state):
    """What schedule=plateau has made of the learning rate, a share of it; 1 without."""
    kind = optax.contrib.ReduceLROnPlateauState
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda leaf: isinstance(leaf, kind))
    return next((leaf.scale for leaf in leaves if isinstance(leaf, kind)), 1.0)


def _said(params, numbers, otherwise, word):
    """What neurons' numbers say, True or False a leaf, and `otherwise` of all other parameters."""

    def leaf(path, _, other):
        *layer, name = (key.key for key in path)
        number = numbers.get("/".join(layer), {}).get(name)
        return other if number is None else word(number)

    return jax.tree_util.tree_map_with_path(leaf, params, otherwise)


def numbers_of(model, config, frame):
    """{layer: {name: neurons.Number}} of the neuron layers, for frames of a shape (H, W, C), where
    a number is updated otherwise than other parameters; else {}."""
    kind = neurons.NEURONS[config.neuron]
    numbers = kind.numbers(neuron_options(config))
    special = any(number.rate != 1.0 or number.decayed for number in numbers.values())
    if not special and kind.constrain is None:
        return {}  # they are as all parameters, wherever they lie
    rows = summary.layers(model, (config.timesteps, *frame))
    return {row.name: numbers for row in rows if row.kind == "SpikingNeuron"}


def constraint_of(constrain, layers):
    """params -> params within what the neuron of these layers allows; None where it allows all."""
    if constrain is None:
        return None

    def constrained(params, path=()):
        if "/".join(path) in layers:
            return constrain(params)
        return {
            key: constrained(value, (*path, key)) if isinstance(value, dict) else value
            for key, value in params.items()
        }

    return constrained


def update_of(optimizer, ema_decay, constrain):
    """(state, gradient, loss) -> (params, opt_state, ema) after a step."""

    def update(state, grads, loss):
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params, value=loss)
        params = optax.apply_updates(state.params, updates)
        if constrain is not None:
            params = constrain(params)
        ema = state.ema
        if ema_decay:
            ema = optax.incremental_update(params, ema, 1.0 - ema_decay)
        return params, opt_state, ema

    return update

"""State, optimizer, mesh, and the jitted train and eval steps.

One program for one CPU, many GPUs or a TPU slice: a mesh with the single axis `data`, the state and
the data set replicated, the batch's indices sharded; the compiler inserts the all-reduces. The
inputs of a step are its arguments, its randomness is `fold_in(key, step)`.
"""

import functools
from typing import Any, NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dalif_jax import data, losses, models
from dalif_jax.augment import augment, normalize
from dalif_jax.config import neuron_options
from dalif_jax.convolution import CONVOLUTIONS
from dalif_jax.event_augment import augment_events
from dalif_jax.norm import STATISTICS
from dalif_jax.summary import watching

INIT, AUGMENT, MIXUP = 0, 1, 3  # streams of randomness drawn from the seed; 2 is data.ORDER


@flax.struct.dataclass
class TrainState:
    """Everything a run needs to continue, besides its config."""

    step: jax.Array  # int32, steps taken
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any  # averaged params, or None


CONFUSION_UP_TO = 128  # classes: beyond, the table of right classes and answers is not for eyes


class Program(NamedTuple):
    """The pieces of a run that depend on its config alone."""

    model: Any
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    init: Any  # () -> TrainState on the mesh
    train_step: Any  # (state, images, labels, order) -> (state, metrics)
    eval_step: Any  # (state, images, labels, indices, valid) -> counts
    replicated: NamedSharding
    sharded: NamedSharding  # first axis over `data`
    order_sharding: NamedSharding  # [steps, batch]: second axis over `data`


def make_mesh(devices=None):
    """A mesh with the one axis `data` over all devices, or the given ones."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)


def seed_key(seed, stream):
    """The key of one stream of randomness; the implementation is pinned, for exact repeats."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), stream)


def make_schedule(config, steps_per_epoch):
    """Learning rate as a function of the step: one value per optimizer step, never per epoch.

    A scalar in float32, or float64 where that is switched on.
    """
    total = config.epochs * steps_per_epoch
    # Rounding leaves the decay a step: a warm-up is shorter than the run.
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total - 1)
    if config.schedule == "onecycle":
        curve, warmup = optax.cosine_onecycle_schedule(total, config.learning_rate), 0
    elif config.schedule == "constant":
        curve = optax.constant_schedule(config.learning_rate)
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


def weights_only(params):
    """Mask: True on kernels and biases of convolutions and linear layers, False on the neurons'
    decays and the norms' scale and bias."""
    if "kernel" in params:
        return dict.fromkeys(params, True)
    return {
        name: weights_only(value) if isinstance(value, dict) else False
        for name, value in params.items()
    }


def make_optimizer(config, schedule):
    """SGD with momentum; weight decay is added to the gradient before the momentum."""
    return optax.chain(
        optax.add_decayed_weights(
            config.weight_decay, mask=None if config.weight_decay_all else weights_only
        ),
        optax.sgd(schedule, momentum=config.momentum, nesterov=config.nesterov),
    )


def prepare(images, spec, dtype):
    """What the network takes: uint8 images [B, H, W, C] -> normalised [B, 1, H, W, C], which it
    shows T times; counts of events [B, T, H, W, 2] as they are."""
    if spec.events:
        return images.astype(dtype)
    return normalize(images, spec.mean, spec.std, dtype)[:, None]


def build_model(config, mesh=None):
    """The network of a config, to be trained on `mesh`."""
    return models.build(
        config.model,
        data.spec(config.dataset).classes,
        neuron_options(config),
        jnp.dtype(config.dtype),
        config.zero_init_residual,
        mesh,
        config.kernel == "pallas",
    )


def forward_of(model, config, platform):
    """The training pass (variables, x) -> ((logits, taps), new), with what its gradient keeps.

    Of the forward pass only the convolutions' outputs are kept, in the compute dtype: norms,
    neurons and spikes are elementwise and computed again. `auto` does so on GPUs, where the
    compiler then plans 40 % less memory for 16 % more traffic; on CPU it changes nothing, and the
    plan for a TPU v5e grows (benchmarks/README.md).
    """

    def forward(variables, x):
        return model.apply(
            variables, x, train=True, timesteps=config.timesteps, mutable=["batch_stats"]
        )

    gpu = platform in ("gpu", "cuda", "rocm")
    if config.rematerialize == "on" or (config.rematerialize == "auto" and gpu):
        keep = jax.checkpoint_policies.save_only_these_names(CONVOLUTIONS, STATISTICS)
        return jax.checkpoint(forward, policy=keep)
    return forward


def make_program(config, steps_per_epoch, mesh):
    """Build a config's model, optimizer and jitted steps on a mesh; compiles nothing yet.

    train_step(state, images, labels, order):
      images uint8 [N, H, W, C] (counts of events [N, T, H, W, 2]) and labels int32 [N] are the
      whole training set, replicated; order int32 [steps_per_epoch, batch] is this epoch's, sharded
      over the batch. Of a set that streams they are the batch, sharded, and order is None. The
      state is donated.
      metrics: scalars `loss`, `accuracy`, `grad_norm`, `learning_rate`, and `finite`, what
      `finite_layers` reads.
    eval_step(state, images, labels, indices, valid):
      indices int32 [B] (None for a set that streams), valid bool [B]; returns sums over the valid
      examples: `loss`, `correct`, `examples`, and int32 counts [H, W], summed over batch, time and
      channels: `spikes` {neuron layer}, and `nonzero` {convolution or linear layer}, the values of
      its input that are not zero. `confusion` int32 [right class, answer], up to 128 classes.
    """
    spec = data.spec(config.dataset, config.frame_size)
    model = build_model(config, mesh)
    dtype = jnp.dtype(config.dtype)
    platform = mesh.devices.flat[0].platform
    forward = forward_of(model, config, platform)
    schedule = make_schedule(config, steps_per_epoch)
    optimizer = make_optimizer(config, schedule)
    replicated = NamedSharding(mesh, PartitionSpec())
    sharded = NamedSharding(mesh, PartitionSpec("data"))
    order_sharding = NamedSharding(mesh, PartitionSpec(None, "data"))
    example_sharding = sharded if spec.streamed else replicated
    # The same bits from the same inputs, whatever the order in which threads finish.
    compiler = {"xla_gpu_deterministic_ops": True} if config.deterministic else None

    def init():
        x = jnp.zeros((1, config.timesteps, *spec.shape), dtype)
        variables = model.init(seed_key(config.seed, INIT), x, train=False)
        params = variables["params"]
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=variables["batch_stats"],
            opt_state=optimizer.init(params),
            ema=jax.tree.map(jnp.copy, params) if config.ema_decay else None,
        )

    def loss_and_metrics(params, batch_stats, x, targets):
        (logits, _), new = forward({"params": params, "batch_stats": batch_stats}, x)
        loss = sum(
            share * losses.time_averaged_cross_entropy(logits, labels, config.label_smoothing)
            for share, labels in targets
        )
        # With mixup, of the first of the pair.
        accuracy = losses.correct(logits, targets[0][1]).mean()
        return loss.mean(), (new["batch_stats"], accuracy)

    if spec.events:
        augment_one = functools.partial(
            augment_events,
            ops=config.augment,
            roll_pixels=config.roll_pixels,
            cutout_size=config.cutout_size,
        )
    else:
        augment_one = functools.partial(
            augment,
            ops=config.augment,
            crop_padding=config.crop_padding,
            cutout_size=config.cutout_size,
        )

    def examples_of(step, images, labels, order):
        """What tells a step's examples apart, [B, ...] each: place in the batch, index, label;
        pixels in place of the index where they stream."""
        place = jax.lax.with_sharding_constraint(jnp.arange(config.batch_size), sharded)
        if spec.streamed:
            return place, images, labels
        rows = order[step % steps_per_epoch]
        return place, rows, labels[rows]

    def inputs_of(step, images, place, rows):
        """Augmented and normalised network inputs of some of a step's examples."""
        # A key per example, by its place in the global batch: the same on any number of devices.
        key = jax.random.fold_in(seed_key(config.seed, AUGMENT), step)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, place)
        pixels = rows if spec.streamed else images[rows]
        return prepare(jax.vmap(augment_one)(keys, pixels), spec, dtype)

    def gradient_of(state, batch_stats, images, examples, partners):
        """Loss, accuracy, new statistics and gradient of some of a step's examples."""
        x, targets = inputs_of(state.step, images, *examples[:2]), [(1.0, examples[2])]
        if partners is not None:
            # The partner is made again where it is needed: examples stay in place.
            share, *partners = partners
            other = inputs_of(state.step, images, *partners[:2])
            weight = share.reshape(-1, *[1] * (x.ndim - 1)).astype(dtype)
            x = weight * x + (1 - weight) * other
            targets = [(share, examples[2]), (1.0 - share, partners[2])]
        gradient = jax.value_and_grad(loss_and_metrics, has_aux=True)
        (loss, (batch_stats, accuracy)), grads = gradient(state.params, batch_stats, x, targets)
        return batch_stats, (loss, accuracy, grads)

    def train_step(state, images, labels, order):
        examples, partners = examples_of(state.step, images, labels, order), None
        if config.mixup:
            # With the next example of the batch.
            key = jax.random.fold_in(seed_key(config.seed, MIXUP), state.step)
            wide = jnp.promote_types(dtype, jnp.float32)
            shape = (config.batch_size,)
            share = jax.random.beta(key, config.mixup, config.mixup, shape, wide)
            partners = share, *(jnp.roll(row, -1, axis=0) for row in examples)

        if config.accumulate == 1:
            batch_stats, (loss, accuracy, grads) = gradient_of(
                state, state.batch_stats, images, examples, partners
            )
        else:
            # Every device works through its own part of the batch, every so many examples apart.
            def part(i):
                split = lambda a: a.reshape(-1, config.accumulate, *a.shape[1:])  # noqa: E731
                return jax.tree.map(lambda a: split(a)[:, i], (examples, partners))

            def one(batch_stats, i):
                return gradient_of(state, batch_stats, images, *part(i))

            # XLA:CPU runs convolutions in a loop many times slower.
            unroll = config.accumulate if platform == "cpu" else 1
            batch_stats, each = jax.lax.scan(
                one, state.batch_stats, jnp.arange(config.accumulate), unroll=unroll
            )
            loss, accuracy, grads = jax.tree.map(lambda a: a.mean(0), each)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if config.ema_decay:
            ema = optax.incremental_update(params, ema, 1.0 - config.ema_decay)
        metrics = {
            "loss": loss,
            "accuracy": accuracy,
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": schedule(state.step),
            "finite": {"running statistics": finite(batch_stats), "gradient": finite(grads)},
        }
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), metrics

    def eval_step(state, images, labels, indices, valid):
        if not spec.streamed:
            images, labels = images[indices], labels[indices]
        x = prepare(images, spec, dtype)
        params = state.params if state.ema is None else state.ema
        variables = {"params": params, "batch_stats": state.batch_stats}

        def count(values):  # [B, T, H, W, C] -> [H, W], [B, T, K] -> []
            there = (values != 0) & valid.reshape(-1, *[1] * (values.ndim - 1))
            return there.sum((0, 1, -1), dtype=jnp.int32)

        nonzero = {}

        def watch(call, args, kwargs, context):
            if isinstance(context.module, nn.Conv | nn.Dense):
                nonzero["/".join(context.module.path)] = count(args[0])
            return call(*args, **kwargs)

        with watching(watch):
            logits, taps = model.apply(
                variables, x, train=False, taps=("spikes",), timesteps=config.timesteps
            )
        loss = losses.time_averaged_cross_entropy(logits, labels)
        confusion = {}
        if spec.classes <= CONFUSION_UP_TO:
            table = jnp.zeros((spec.classes,) * 2, jnp.int32)
            answers = losses.time_average(logits).argmax(-1)
            confusion["confusion"] = table.at[labels, answers].add(valid.astype(jnp.int32))
        return confusion | {
            "loss": jnp.where(valid, loss, 0.0).sum(),
            "correct": (losses.correct(logits, labels) & valid).sum(dtype=jnp.int32),
            "examples": valid.sum(dtype=jnp.int32),
            "spikes": {name: count(tap["spikes"]) for name, tap in taps.items()},
            "nonzero": nonzero,
        }

    return Program(
        model=model,
        optimizer=optimizer,
        schedule=schedule,
        init=jax.jit(init, out_shardings=replicated),
        train_step=jax.jit(
            train_step,
            donate_argnums=0,
            in_shardings=(replicated, example_sharding, example_sharding, order_sharding),
            out_shardings=replicated,
            compiler_options=compiler,
        ),
        eval_step=jax.jit(
            eval_step,
            in_shardings=(replicated, example_sharding, example_sharding, sharded, sharded),
            out_shardings=replicated,
            compiler_options=compiler,
        ),
        replicated=replicated,
        sharded=sharded,
        order_sharding=order_sharding,
    )


def finite(tree):
    """bool [leaves] in the order of the tree: whether every value of a leaf is a number."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)])


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


def abstract_state(program):
    """The TrainState's shapes, dtypes and shardings, for restoring into."""
    shapes = jax.eval_shape(program.init)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=program.replicated),
        shapes,
    )

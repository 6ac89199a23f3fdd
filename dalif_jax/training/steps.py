"""The jitted steps of a run, and the train step.

One program for one CPU, many GPUs or a TPU slice: a mesh with the single axis `data`, the state and
the data set replicated, the batch's indices sharded; the compiler inserts the all-reduces.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from dalif_jax import losses, networks, neurons
from dalif_jax.data import sets
from dalif_jax.norms import STATISTICS
from dalif_jax.ops.convolution import CONVOLUTIONS
from dalif_jax.settings.config import (
    loss_options,
    network_options,
    neuron_options,
    norm_options,
)
from dalif_jax.training.batches import (
    batches_of,
    examples_of,
    mixed,
    part_of,
    partners_of,
)
from dalif_jax.training.counting import eval_step_of
from dalif_jax.training.state import (
    DROPOUT,
    INIT,
    TrainState,
    finite,
    seed_key,
)
from dalif_jax.training.updates import (
    constraint_of,
    fallen,
    make_optimizer,
    make_schedule,
    numbers_of,
    update_of,
)


class Program(NamedTuple):
    """The pieces of a run that depend on its config alone."""

    model: Any  # the network on one device, for analysis and export
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    init: Any  # () -> TrainState on the mesh
    train_step: Any  # (state, images, labels, order) -> (state, metrics)
    eval_step: Any  # (state, images, labels, indices, valid) -> counts
    replicated: NamedSharding
    sharded: NamedSharding  # first axis over `data`
    order_sharding: NamedSharding  # [steps, batch]: second axis over `data`


def build_model(config, mesh=None):
    """The network of a config, to be trained on `mesh`."""
    return networks.build(
        config.model,
        sets.spec(config.dataset, config.frame_size, config.found).classes,
        neuron_options(config),
        jnp.dtype(config.dtype),
        norm=config.norm,
        attention=config.attention,
        norm_options=norm_options(config),
        attention_options=dict(config.attention_options),
        statistic=losses.LOSSES[config.loss].statistic,
        mesh=mesh,
        pallas=networks.KERNELS[config.kernel],
        **network_options(config),
    )


def make_program(config, steps_per_epoch, mesh):
    """Build a config's model, optimizer and jitted steps on a mesh; compiles nothing yet.

    train_step(state, images, labels, order):
      images uint8 [N, H, W, C] (counts of events [N, T, H, W, 2]) and labels int32 [N] are the
      whole training set, replicated; order int32 [steps_per_epoch, batch] is this epoch's, sharded
      over the batch. Of a set that streams they are the batch, sharded, and order is None. The
      state is donated.
      metrics: scalars `loss`, `accuracy`, `grad_norm`, `learning_rate`, and `finite`, what
      `first_not_finite` reads.
    eval_step(state, images, labels, indices, valid):
      indices int32 [B] (None for a set that streams), valid bool [B]; returns sums over the valid
      examples, see `eval_step_of`.
    """
    spec = sets.spec(config.dataset, config.frame_size, config.found)
    # Layers that divide the batch over the mesh run in the jitted steps alone: analysis traces the
    # network with a batch of 1, which cannot be divided.
    model, sharded_model = build_model(config), build_model(config, mesh)
    schedule = make_schedule(config, steps_per_epoch)
    kind, numbers = neurons.NEURONS[config.neuron], numbers_of(model, config, spec.shape)
    optimizer = make_optimizer(config, schedule, numbers, steps_per_epoch)
    replicated = NamedSharding(mesh, PartitionSpec())
    sharded = NamedSharding(mesh, PartitionSpec("data"))
    order_sharding = NamedSharding(mesh, PartitionSpec(None, "data"))
    examples = sharded if spec.streamed else replicated

    shape = (config.timesteps, *spec.shape)
    batches = batches_of(config, spec, steps_per_epoch, sharded)
    platform = mesh.devices.flat[0].platform
    forward = forward_of(
        sharded_model, (spec.events and config.train_timesteps) or config.timesteps,
        losses.LOSSES[config.loss], loss_options(config),
        remakes(config.rematerialize, platform),
    )  # fmt: skip
    update = update_of(optimizer, config.ema_decay, constraint_of(kind.constrain, numbers))
    jit = functools.partial(
        jax.jit,
        out_shardings=replicated,
        # The same bits from the same inputs, whatever the order in which threads finish.
        compiler_options={"xla_gpu_deterministic_ops": True} if config.deterministic else None,
    )
    return Program(
        model=model,
        optimizer=optimizer,
        schedule=schedule,
        init=jax.jit(
            init_of(model, optimizer, config.seed, jnp.zeros((1, *shape), batches.dtype),
                    config.ema_decay > 0),
            out_shardings=replicated,
            # Drawn once, to the same numbers: LLVM's dearer passes take longer than they save.
            compiler_options={"xla_backend_optimization_level": 1} if platform == "cpu" else None,
        ),
        train_step=jit(
            train_step_of(
                batches, gradient_of(batches, forward, config.epochs * steps_per_epoch), update,
                schedule, platform,
            ),
            donate_argnums=0,
            in_shardings=(replicated, examples, examples, order_sharding),
        ),
        eval_step=jit(
            eval_step_of(
                sharded_model, spec, batches.dtype, config.timesteps,
                spec.events and config.test_slices,
                config.mirrored_views and not spec.events,
            ),
            in_shardings=(replicated, examples, examples, sharded, sharded),
        ),
        replicated=replicated,
        sharded=sharded,
        order_sharding=order_sharding,
    )  # fmt: skip


def init_of(model, optimizer, seed, x, averaged):
    """() -> TrainState before the first step, for inputs like x."""

    def init():
        variables = model.init(seed_key(seed, INIT), x, train=False)
        params = variables["params"]
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=variables.get("batch_stats", {}),
            opt_state=optimizer.init(params),
            ema=jax.tree.map(jnp.copy, params) if averaged else None,
        )

    return init


def remakes(rematerialize, platform):
    """Whether the gradient keeps the convolutions' outputs alone, see forward_of."""
    gpu = platform in ("gpu", "cuda", "rocm")
    return rematerialize == "on" or (rematerialize == "auto" and gpu)


def forward_of(model, timesteps, loss, options, remake):
    """The training pass (variables, x, targets, share, key) -> (losses [B], (logits, statistics)),
    with what its gradient keeps. Targets are (weight, labels); loss is a Loss, told its options;
    key is for dropout.

    With `remake`, only the convolutions' outputs are kept of the forward pass, in compute dtype:
    norms, neurons and spikes are elementwise and computed again. `rematerialize=auto` does so on
    GPUs, where the compiler then plans 40 % less memory for 16 % more traffic; on CPU it changes
    nothing, and the plan for a TPU v5e grows (benchmarks/README.md).
    """
    asked = ("statistic",) * bool(loss.statistic) + ("second",) * loss.second

    def forward(variables, x, share, key):
        return networks.tapped(
            model, variables, x, asked, ["batch_stats"], train=True, timesteps=timesteps,
            share=share, rngs=None if key is None else {"dropout": key},
        )  # fmt: skip

    if remake:
        keep = jax.checkpoint_policies.save_only_these_names(CONVOLUTIONS, STATISTICS)
        forward = jax.checkpoint(forward, policy=keep)

    def losses_of(variables, x, targets, share, key=None):
        logits, taps, new = forward(variables, x, share, key)
        second = {"second": taps.pop("")["second"]} if loss.second else {}
        taps = second | {name: tap["statistic"] for name, tap in taps.items()}
        total = sum(
            weight * loss.function(options, logits, labels, taps, share)
            for weight, labels in targets
        )
        return total, (logits, new.get("batch_stats", {}))

    return losses_of


def gradient_of(batches, forward, total_steps):
    """(state, batch_stats, images, examples, partners, part) -> (new statistics, (loss, accuracy,
    gradient)) of some of a step's examples."""

    def loss_and_metrics(params, batch_stats, x, targets, share, key):
        variables = {"params": params, "batch_stats": batch_stats}
        each, (logits, new) = forward(variables, x, targets, share, key)
        # With mixup, of the first of the pair.
        accuracy = losses.correct(logits, targets[0][1]).mean()
        return each.mean(), (new, accuracy)

    def gradient(state, batch_stats, images, examples, partners, part=0):
        x, targets = mixed(batches, state.step, images, examples, partners)
        share = state.step / total_steps
        key = jax.random.fold_in(seed_key(batches.seed, DROPOUT), state.step)
        key = jax.random.fold_in(key, part)
        value_and_grad = jax.value_and_grad(loss_and_metrics, has_aux=True)
        (loss, (batch_stats, accuracy)), grads = value_and_grad(
            state.params, batch_stats, x, targets, share, key
        )
        return batch_stats, (loss, accuracy, grads)

    return gradient


def train_step_of(batches, gradient, update, schedule, platform):
    """The train step of make_program."""

    def train_step(state, images, labels, order):
        examples = examples_of(batches, state.step, images, labels, order)
        partners = partners_of(batches, state.step, examples)
        if batches.parts == 1:
            batch_stats, (loss, accuracy, grads) = gradient(
                state, state.batch_stats, images, examples, partners
            )
        else:

            def one(batch_stats, i):
                part = part_of(batches, i, (examples, partners))
                return gradient(state, batch_stats, images, *part, i)

            # XLA:CPU runs convolutions in a loop many times slower.
            unroll = batches.parts if platform == "cpu" else 1
            batch_stats, each = jax.lax.scan(
                one, state.batch_stats, jnp.arange(batches.parts), unroll=unroll
            )
            loss, accuracy, grads = jax.tree.map(lambda a: a.mean(0), each)
        params, opt_state, ema = update(state, grads, loss)
        metrics = {
            "loss": loss,
            "accuracy": accuracy,
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": schedule(state.step) * fallen(opt_state),
            "finite": {"running statistics": finite(batch_stats), "gradient": finite(grads)},
        }
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), metrics

    return train_step

"""The eval step: what a run's network does with a batch, counted, not averaged."""

import jax
import jax.numpy as jnp

from dalif_jax import losses, networks, neurons
from dalif_jax.analysis import summary
from dalif_jax.data.events.event_augment import spread_slices
from dalif_jax.training.batches import prepare

CONFUSION_UP_TO = 128  # classes: beyond, the table of right classes and answers is not for eyes


def eval_step_of(model, spec, dtype, timesteps, slices=0, mirrored=False):
    """The eval step of make_program: sums over the valid examples.

    `loss` (of the time-averaged logits, whatever the run's), `correct`, `examples`; int32 counts
    [H, W], summed over batch, time and channels: `spikes` {neuron layer}, the sum of what it gave
    where that is integers, else how many are not zero, and `nonzero` {convolution, linear layer or
    pool}, the values of its input that are not zero; `amount`, their sums where there are integers
    above 1; `products` {attention between spikes}, [B], those of two spikes. `confusion` int32
    [right class, answer], up to CONFUSION_UP_TO classes.

    With `slices` the network is shown so many of each recording, `shown` counts them, and a
    recording is right where more than half of its slices are; else its answer is the class that
    most of those that are wrong give.

    With `mirrored` there is `mirrored`, how many are right by the mean of the logits of an image
    [B, T or 1, H, W, C] and of itself turned left to right; nothing else is of the second view.
    """

    def eval_step(state, images, labels, indices, valid):
        if not spec.streamed:
            images, labels = images[indices], labels[indices]
        shown, recordings = valid, (labels, valid)
        if slices:
            images = jax.vmap(lambda frames: spread_slices(frames, timesteps, slices))(images)
            images = images.reshape(-1, *images.shape[2:])
            labels, shown = jnp.repeat(labels, slices), jnp.repeat(valid, slices)
        x = prepare(images, spec, dtype)
        params = state.params if state.ema is None else state.ema
        variables = {"params": params, "batch_stats": state.batch_stats}

        def count(values, whole=False):  # [B, T, H, W, C] -> [H, W], [B, T, K] -> []
            mask = shown.reshape(-1, *[1] * (values.ndim - 1))
            there = jnp.where(mask, values, 0) if whole else (values != 0) & mask
            return there.sum((0, 1, -1), dtype=jnp.int32)

        taken = {"nonzero": {}, "amount": {}}
        levels = {}

        def watch(call, args, kwargs, context):
            module = context.module
            kind, name = networks.layer_kind(module), "/".join(module.path)
            if context.method_name == "__call__" and kind in ("conv", "linear", "pool"):
                taken["nonzero"][name] = count(args[0])
                if any(level > 1 for level in levels.values()):
                    taken["amount"][name] = count(args[0], whole=True)
            elif kind == "neuron":
                levels[name] = neurons.of(module.options).levels
            elif kind == "join":
                levels[name] = module.levels(*[max(levels.values(), default=0)] * 2)
            return call(*args, **kwargs)

        with summary.watching(watch):
            logits, taps, _ = networks.tapped(
                model, variables, x, ("spikes", "products"), train=False, timesteps=timesteps
            )
        loss = losses.time_averaged_cross_entropy(logits, labels)
        right = losses.correct(logits, labels)
        answers = losses.time_average(logits).argmax(-1)
        if slices:
            labels, valid = recordings
            each = lambda values: values.reshape(-1, slices)  # noqa: E731
            loss, right = each(loss).mean(1), 2 * each(right).sum(1) > slices
            wrong = jax.nn.one_hot(each(answers), spec.classes, dtype=jnp.int32).sum(1)
            wrong = wrong.at[jnp.arange(len(labels)), labels].set(-1)
            answers = jnp.where(right, labels, wrong.argmax(-1))
        confusion, twice = {}, {}
        if mirrored:
            other, _, _ = networks.tapped(
                model, variables, x[..., ::-1, :], (), train=False, timesteps=timesteps
            )
            both = losses.correct((logits + other) / 2, labels)
            twice["mirrored"] = (both & valid).sum(dtype=jnp.int32)
        if spec.classes <= CONFUSION_UP_TO:
            table = jnp.zeros((spec.classes,) * 2, jnp.int32)
            confusion["confusion"] = table.at[labels, answers].add(valid.astype(jnp.int32))
        return confusion | twice | taken | {
            "loss": jnp.where(valid, loss, 0.0).sum(),
            "correct": (right & valid).sum(dtype=jnp.int32),
            "examples": valid.sum(dtype=jnp.int32),
            "shown": shown.sum(dtype=jnp.int32),
            "spikes": {
                name: count(tap["spikes"], whole=levels[name] > 1)
                for name, tap in taps.items() if "spikes" in tap
            },
            "products": {
                name: jnp.where(shown, tap["products"], 0)
                for name, tap in taps.items() if "products" in tap
            },
        }  # fmt: skip

    return eval_step

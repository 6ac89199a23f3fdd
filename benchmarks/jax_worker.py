"""dalif_jax under the driver's commands; see worker.py and measure.py."""

import math
import os
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections  # noqa: F401  its import must not fall into a timing
import numpy as np
import optax
from worker import Peak, serve

from configs.base import get_config
from dalif_jax import losses, networks, training
from dalif_jax.analysis import summary
from dalif_jax.training.steps import forward_of, remakes

CPU = jax.default_backend() == "cpu"


def timed(step, repeats):
    """Seconds of each call, waited for."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(step())
        seconds.append(time.perf_counter() - started)
    return seconds


class Side:
    def __init__(self, spec):
        self.spec = spec

    def become(self, spec):
        """Take another case of the same kind; `prepare` comes next."""
        self.spec = spec
        return {"ok": True}

    def prepare(self):
        self.memory = Peak()
        self.build()
        started = time.perf_counter()
        self.compile()
        seconds = time.perf_counter() - started
        self.memory.compiled_now()
        for _ in range(3):
            jax.block_until_ready(self.step())
        return {
            "compile_s": seconds,
            "versions": {"jax": jax.__version__, "jaxlib": jax.lib.__version__},
            "device": jax.devices()[0].device_kind,
        }

    def run(self, steps):
        return {"seconds": timed(self.step, steps)}

    def product(self, size, repeats):
        """Seconds of a float32 matrix product: the ceiling of what convolutions can reach."""
        a = jax.random.normal(jax.random.key(0), (size, size), jnp.float32)
        product = jax.jit(jnp.matmul, static_argnames="precision")
        step = lambda: product(a, a, precision="highest")  # noqa: E731
        jax.block_until_ready(step())
        return {"seconds": timed(step, repeats)}

    def move(self, values, repeats):
        """Seconds to read and write so many float32."""
        x = jnp.zeros(values)
        step = jax.jit(lambda x: x + 1).lower(x).compile()
        jax.block_until_ready(step(x))
        return {"seconds": timed(lambda: step(x), repeats)}

    def peak(self):
        memory = self.compiled.memory_analysis()
        planned = memory.argument_size_in_bytes + memory.output_size_in_bytes
        planned += memory.temp_size_in_bytes - memory.alias_size_in_bytes
        if CPU:
            peak = self.memory.read()
        else:
            peak = {"peak_bytes": jax.devices()[0].memory_stats()["peak_bytes_in_use"]}
        return {**peak, "planned_bytes": planned}


class Step(Side):
    """The whole train step of `training.make_program`, without augmentation."""

    def build(self):
        spec = self.spec
        config = get_config()
        with config.unlocked():
            config.update(spec.get("config", {}))
        config.model, config.timesteps = spec["network"], spec["timesteps"]
        config.batch_size, config.dtype = spec["batch"], spec["dtype"]
        config.augment = tuple(spec.get("augment", ()))
        config.dataset = spec.get("dataset", "cifar10")
        if spec["dtype"] == "float64":
            jax.config.update("jax_enable_x64", True)
        self.config = config
        self.program = training.make_program(config, 1, training.make_mesh(jax.devices()[:1]))
        self.state = self.program.init()
        draw = np.random.default_rng(0)
        shape = (spec["batch"], spec["size"], spec["size"], spec["channels"])
        images = draw.integers(0, 256, shape).astype(np.uint8)
        labels = draw.integers(0, spec["classes"], spec["batch"]).astype(np.int32)
        self.data = jax.device_put((images, labels), self.program.replicated)
        order = np.arange(spec["batch"], dtype=np.int32)[None]
        self.order = jax.device_put(order, self.program.order_sharding)

    def compile(self):
        self.compiled = self.program.train_step.lower(self.state, *self.data, self.order).compile()

    def step(self):
        self.state, metrics = self.compiled(self.state, *self.data, self.order)
        return metrics["loss"], self.state.params

    def work(self):
        """What a step must compute and move: {flops, bytes}, by tracing the network.

        A convolution and its two gradients multiply as often; nothing goes back to the input. In
        float32 each reads its input twice and writes the input's gradient, writes its output and
        reads the output's gradient twice; norm and neuron, one pass over all that a statistic needs
        and one that uses it, read the output twice and write spikes, then read output and gradient
        twice and write one gradient.
        """
        flops = numbers = 0
        for i, (x, out, (kh, kw, channels, _)) in enumerate(self.convolutions()):
            read, written = math.prod(x), math.prod(out)
            flops += 2 * written * kh * kw * channels * (3 if i else 2)
            numbers += (3 if i else 2) * read + 11 * written
        return {"flops": flops, "bytes": 4 * numbers}

    def convolutions(self):
        """[(x's shape, the output's, the kernel's)] of the training pass, in order, by tracing."""
        shapes = []

        def watch(call, args, kwargs, context):
            out = call(*args, **kwargs)
            if isinstance(context.module, nn.Conv) and context.method_name == "__call__":
                kernel = context.module.variables["params"]["kernel"].shape
                shapes.append((args[0].shape, out.shape, kernel))
            return out

        with summary.watching(watch):
            jax.eval_shape(self.forward)
        return shapes

    def forward(self):
        """The training pass, on a batch of examples as they reach the network."""
        spec = self.spec
        shape = (spec["batch"], 1, spec["size"], spec["size"], spec["channels"])
        return self.applied(self.state.params, jnp.zeros(shape, spec["dtype"]))

    def applied(self, params, x):
        variables = {"params": params, "batch_stats": self.state.batch_stats}
        return self.program.model.apply(
            variables, x, train=True, timesteps=self.spec["timesteps"], mutable=["batch_stats"]
        )

    def weights(self, out):
        """Initial weights and a batch, for both sides' gates."""
        self.build()
        spec = self.spec
        draw = np.random.default_rng(1)
        shape = (spec["batch"], spec["timesteps"] if spec["network"] == "vgg11" else 1)
        shape += (spec["size"], spec["size"], spec["channels"])
        labels = draw.integers(0, spec["classes"], spec["batch"])
        flat = {
            "params/" + "/".join(str(key.key) for key in path): np.asarray(leaf, np.float64)
            for path, leaf in jax.tree_util.tree_leaves_with_path(self.state.params)
        }
        np.savez(out, x=draw.normal(size=shape), labels=labels, **flat)
        return {"ok": True}

    def params_of(self, given):
        """The network's parameters with the values of what `weights` wrote."""
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: jnp.asarray(
                given["params/" + "/".join(str(key.key) for key in path)], leaf.dtype
            ),
            self.state.params,
        )

    def gate(self, inputs, out):
        self.build()
        given = np.load(inputs)
        params = self.params_of(given)
        x = jnp.asarray(given["x"], self.spec["dtype"])

        def loss(params):
            logits, _ = self.applied(params, x)
            value = losses.time_averaged_cross_entropy(logits, given["labels"]).mean()
            return value, logits

        (value, logits), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        flat = {
            "params/" + "/".join(str(key.key) for key in path): np.asarray(leaf, np.float64)
            for path, leaf in jax.tree_util.tree_leaves_with_path(grads)
        }
        np.savez(out, loss=float(value), logits=np.asarray(logits, np.float64), **flat)
        return {"ok": True}


def events_step(model, config, optimizer, shape, platform, abstract=False):
    """(state, train step) on event frames [B, T, H, W, 2], which are no images in uint8.

    `abstract` gives the state's shapes only.
    """

    def init():
        variables = model.init(jax.random.key(0), jnp.zeros((1, *shape[1:])), train=False)
        params = variables["params"]
        step = jnp.zeros((), jnp.int32)
        return training.TrainState(
            step, params, variables["batch_stats"], optimizer.init(params), None
        )

    loss = losses.LOSSES["cross_entropy"], losses.options("cross_entropy")
    forward = forward_of(model, config.timesteps, *loss, remakes(config.rematerialize, platform))

    def train_step(state, x, labels, _):
        def loss(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            each, (_, new) = forward(variables, x, [(1.0, labels)], 1.0)
            return each.mean(), new

        (value, new), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = training.TrainState(state.step + 1, params, new, opt_state, None)
        return state, {"loss": value}

    return (jax.eval_shape(init) if abstract else jax.jit(init)()), train_step


class Events(Step):
    """The same for event frames."""

    def forward(self):
        return self.applied(self.state.params, self.data[0])

    def build(self):
        spec = self.spec
        super().build()
        mesh = training.make_mesh(jax.devices()[:1]) if self.config.kernel == "pallas" else None
        model = networks.build(
            spec["network"], spec["classes"], dtype=jnp.dtype(spec["dtype"]), mesh=mesh
        )
        shape = (spec["batch"], spec["timesteps"], spec["size"], spec["size"], spec["channels"])
        x = jnp.asarray(np.random.default_rng(0).normal(size=shape), spec["dtype"])
        self.data = x, self.data[1]
        self.state, step = events_step(
            model, self.config, self.program.optimizer, shape, jax.default_backend()
        )
        self.program = self.program._replace(
            model=model, train_step=jax.jit(step, donate_argnums=0)
        )


if __name__ == "__main__":
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from jax_inference import Frames, Images
    from jax_layers import Layer, Neuron
    from jax_models import Model

    kinds = {"step": Step, "neuron": Neuron, "layer": Layer, "model": Model, "inference": Images}
    of_events = {"step": Events, "inference": Frames}

    def make(spec):
        return (of_events if spec.get("network") == "vgg11" else kinds)[spec["kind"]](spec)

    serve(make)

"""One layer of neurons, forward and backward, under the driver's commands; see jax_worker.py."""

import jax
import jax.numpy as jnp
import numpy as np
from jax_worker import Side, timed

from dalif_jax import neurons, training
from dalif_jax.ops import fused


class Layer(Side):
    """One layer of any neuron as a network runs it, [B, T, H, W, C], forward and backward."""

    def build(self):
        spec = self.spec
        if spec["dtype"] == "float64":
            jax.config.update("jax_enable_x64", True)
        batch, *rest = spec["shape"]
        shape = (batch, spec["timesteps"], *rest)
        keys = jax.random.split(jax.random.key(0))
        dtype = jnp.dtype(spec["dtype"])
        self.x, self.gradient = (jax.random.normal(key, shape).astype(dtype) for key in keys)
        self.params, layer = self.layer()

        def both(params, x, gradient):
            spikes, backward = jax.vjp(layer, params, x)
            return spikes, backward(gradient)

        self.both = jax.jit(both)

    def layer(self):
        """(its numbers, (numbers, x) -> spikes)."""
        spec = self.spec
        layer = neurons.SpikingNeuron(neurons.options(spec["neuron"], **spec["options"]))
        # No running statistics are kept: a layer forward and backward is what is timed.
        variables = layer.init(jax.random.key(1), self.x[:1], True)
        rest = {key: value for key, value in variables.items() if key != "params"}
        spikes = lambda params, x: layer.apply({"params": params, **rest}, x, True)  # noqa: E731
        return variables.get("params", {}), spikes

    def compile(self):
        self.compiled = self.both.lower(self.params, self.x, self.gradient).compile()

    def step(self):
        return self.compiled(self.params, self.x, self.gradient)

    def copy(self, repeats):
        """Seconds to copy x once: the bandwidth the floor is counted in."""
        duplicate = jax.jit(lambda x: x + 1).lower(self.x).compile()
        jax.block_until_ready(duplicate(self.x))
        return {"seconds": timed(lambda: duplicate(self.x), repeats), "bytes": self.x.nbytes}

    def weights(self, out):
        self.build()
        np.savez(out, x=self.x, gradient=self.gradient, **self.params)
        return {"ok": True}

    def gate(self, inputs, out):
        self.build()
        given = np.load(inputs)
        params = {name: jnp.asarray(given[name]) for name in self.params}
        spikes, (of_params, of_x) = self.both(params, given["x"], given["gradient"])
        np.savez(out, spikes=spikes, x=of_x, **of_params)
        return {"ok": True}


class Neuron(Layer):
    """DA-LIF in each of its forms."""

    def layer(self):
        kind = self.spec["neuron"]
        if kind in ("fused", "pallas"):
            mesh = training.make_mesh(jax.devices()[:1]) if kind == "pallas" else None

            def spikes(params, x):
                decays = jnp.tanh(params["a"]), jnp.tanh(params["b"])
                return fused.spikes(*decays, x, 1.0, "rectangle", 1.0, False, mesh)
        else:
            options = neurons.options()

            def spikes(params, x):
                return neurons.simulate(options, params, x)[1]

        return {"a": jnp.float32(1.0), "b": jnp.float32(1.0)}, spikes

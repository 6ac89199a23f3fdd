"""Our side of inference.py: one timestep of streaming input, or the answer to a whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
from jax_worker import Events, Step

from dalif_jax import networks


class Inference:
    """The forward pass of a network that stays as it is initialised, on a batch already there."""

    def build(self):
        super().build()
        spec = self.spec
        shape = (spec["batch"], spec["timesteps"], spec["size"], spec["size"], spec["channels"])
        # One image is shown at all timesteps; of events each timestep has frames of its own.
        self.shown = shape if spec["network"] == "vgg11" else (shape[0], 1, *shape[2:])
        self.variables = {"params": self.state.params, "batch_stats": self.state.batch_stats}
        self.x = jnp.asarray(np.random.default_rng(0).normal(size=self.shown), spec["dtype"])

    def streamed(self, variables, state, x):
        return networks.stream(self.program.model, variables, state, x)

    def answer(self, variables, x):
        """Logits [B, T, classes]."""
        return self.program.model.apply(variables, x, train=False, timesteps=self.spec["timesteps"])

    def compile(self):
        if self.spec["task"] == "throughput":
            self.compiled = jax.jit(self.answer).lower(self.variables, self.x).compile()
            self.step = lambda: self.compiled(self.variables, self.x)
            return
        frame = self.x[:, 0]
        state, _ = jax.jit(self.streamed)(self.variables, {}, frame)
        stepped = jax.jit(self.streamed, donate_argnums=1)
        self.compiled = stepped.lower(self.variables, state, frame).compile()
        self.held = state

        def step():
            self.held, logits = self.compiled(self.variables, self.held, frame)
            return logits

        self.step = step

    def weights(self, out):
        """As for a step, norms ten times as strong: without a batch's statistics deep layers
        would stay silent, and the gate compare nothing."""
        said = super().weights(out)
        given = dict(np.load(out))
        np.savez(out, **{k: 10 * v if k.endswith("/scale") else v for k, v in given.items()})
        return said

    def gate(self, inputs, out):
        """Logits of both forms, with the given weights and frames."""
        self.build()
        given = np.load(inputs)
        variables = {**self.variables, "params": self.params_of(given)}
        x = jnp.asarray(given["x"])
        state, steps, stream = {}, [], jax.jit(self.streamed)
        for t in range(self.spec["timesteps"]):
            state, logits = stream(variables, state, x[:, t if x.shape[1] > 1 else 0])
            steps.append(logits)
        batch = jax.jit(self.answer)(variables, x)
        np.savez(out, streamed=np.stack(steps, 1), batch=np.asarray(batch))
        return {"ok": True}


class Images(Inference, Step):
    pass


class Frames(Inference, Events):
    pass

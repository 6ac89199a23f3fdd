"""Our side of models.py: a network of a whole config, its train step and its gate."""

import jax
import jax.numpy as jnp
import numpy as np
from jax_worker import Step

from configs.base import get_config
from dalif_jax import training
from dalif_jax.data import sets


class Model(Step):
    def build(self):
        spec = self.spec
        if spec["dtype"] == "float64":
            jax.config.update("jax_enable_x64", True)
        config = get_config()
        with config.unlocked():
            config.update(spec["config"])
        config.model_options = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in spec["config"]["model_options"].items()
        }
        config.dtype, config.timesteps, config.batch_size = (
            spec["dtype"], spec["timesteps"], spec["batch"],
        )  # fmt: skip
        self.config, known = config, sets.spec(config.dataset, config.frame_size)
        self.program = training.make_program(config, 1, training.make_mesh(jax.devices()[:1]))
        self.state = self.program.init()
        draw = np.random.default_rng(0)
        shape = (spec["timesteps"], *known.shape) if known.events else known.shape
        images = draw.integers(0, 4 if known.events else 256, (spec["batch"], *shape), np.uint8)
        labels = draw.integers(0, known.classes, spec["batch"], np.int32)
        self.data = jax.device_put((images, labels))
        order = None if known.streamed else jnp.arange(spec["batch"], dtype=jnp.int32)[None]
        self.order = order

    def weights(self, out):
        """Initial weights and a batch, what a network is shown, for both sides' gates."""
        self.build()
        draw, known = np.random.default_rng(1), sets.spec(self.config.dataset)
        shape = (self.spec["batch"], self.spec["timesteps"] if known.events else 1)
        shape += (self.spec["size"], self.spec["size"], self.spec["channels"])
        x = draw.poisson(0.5, shape) if known.events else draw.normal(size=shape)
        flat = {
            "params/" + "/".join(str(key.key) for key in path): np.asarray(leaf, np.float64)
            for path, leaf in jax.tree_util.tree_leaves_with_path(self.state.params)
        }
        for path in flat:
            if path.split("/")[1] in ("hidden", "head") and path.endswith("kernel"):
                flat[path] = 10 * flat[path]  # or neurons behind linear layers stay silent
        labels = draw.integers(0, known.classes, self.spec["batch"])
        np.savez(out, x=x.astype(np.float64), labels=labels, **flat)
        return {"ok": True}

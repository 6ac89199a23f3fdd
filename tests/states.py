"""What tests of saves and runs share."""

import jax
import jax.numpy as jnp

from dalif_jax.runs.checkpoint import Checkpoints


def state(value):
    return {
        "a": jnp.full((700, 3), float(value)),
        "n": jnp.int32(value),
        "h": jnp.ones(4, jnp.bfloat16),
    }


def like(tree):
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), tree)


def filled(folder, steps=(1, 2, 3)):
    with Checkpoints(folder, 3) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step), extra={"note": step})
        checkpoints.finish()
    return folder

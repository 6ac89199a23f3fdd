"""A neuron takes a key of all neurons, or refuses it with a reason; none is taken for nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalif_jax.neurons import NEURONS, options, refusal
from dalif_jax.neurons.layer import SpikingNeuron

X = 1.5 * np.random.default_rng(0).normal(size=(2, 3, 96)).astype(np.float32)
OTHERS = {"surrogate": "triangle", "surrogate_width": 1.7, "threshold": 0.8}


def gives(found):
    """Spikes and gradients of a layer, a flat list of arrays."""
    layer, weights = SpikingNeuron(found), jnp.cos(jnp.arange(X.size)).reshape(X.shape)
    variables = layer.init(jax.random.key(0), X, True)

    def loss(variables, x):
        spikes = layer.apply(variables, x, True)
        return (spikes * weights).sum(), spikes

    gradients, spikes = jax.grad(loss, (0, 1), has_aux=True)(variables, X)
    return [np.asarray(value) for value in jax.tree.leaves((gradients, spikes))]


@pytest.mark.parametrize("detach", [False, True], ids=["", "detached"])
@pytest.mark.parametrize("name", NEURONS)
def test_a_key_is_refused_just_where_it_does_nothing(name, detach):
    keys = {"threshold": 0.6, "detach_reset": detach, "fused": False}
    others = OTHERS | {"detach_reset": not detach}
    plain = options(name, **keys)
    with jax.disable_jit():  # a step at a time: compiling each of them takes minutes
        before = gives(plain)
        given = {key: gives(options(name, **keys | {key: to})) for key, to in others.items()}
    for key, after in given.items():
        same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        # A folded network starts at the threshold, until a conversion's are there.
        if (name, key) != ("folded", "threshold"):
            assert same == bool(refusal(plain, key)), key

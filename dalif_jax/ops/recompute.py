"""A function that keeps nothing for its gradient but what it was given.

jax.checkpoint says the same, but leaves the compiler free to compute again long before the gradient
arrives, which XLA:CPU does for all layers at once: it then keeps them after all. Here what is
computed again takes its inputs from behind the gradient.
"""

import jax
import jax.numpy as jnp


def keeping_inputs(function):
    """`function` of pytrees of float arrays, whose backward pass runs it again.

    Values and gradients are those of `function`.
    """

    @jax.custom_vjp
    def run(*inputs):
        return function(*inputs)

    def forward(*inputs):
        return function(*inputs), inputs

    def backward(inputs, gradient):
        return jax.vjp(function, *_behind(gradient, inputs))[1](gradient)

    run.defvjp(forward, backward)
    return run


def _behind(gradient, inputs):
    """The inputs, which cannot be had before the gradient: divided by a 1 made of it. (A barrier
    says the same, and XLA:CPU takes it out before it orders its operations.)"""
    first = jax.tree.leaves(gradient)[0].reshape(-1)[0]
    one = jnp.where(first == first, 1.0, 1.0 + first)
    return jax.tree.map(lambda leaf: leaf / one.astype(leaf.dtype), inputs)

"""Deep spiking networks with dual adaptive leaky integrate-and-fire neurons, in JAX."""

__version__ = "0.2.0"

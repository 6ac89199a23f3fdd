"""Deep spiking networks with dual adaptive leaky integrate-and-fire neurons, in JAX."""

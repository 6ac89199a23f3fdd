"""Validate the arguments of a network's call once, before any layer runs."""

import functools


def checked(network):
    """A network of `networks.add`, whose call first validates its arguments.

    Args:
      network: (classes, parts, ...) -> a Flax module: its class, or a partial of it.
    """
    if isinstance(network, functools.partial):
        return functools.partial(checked(network.func), *network.args, **network.keywords)
    return _checked(network) if isinstance(network, type) else network


@functools.cache
def _checked(network):
    def call(self, x, train=False, timesteps=None, share=1.0):
        check_input(x, timesteps, getattr(self, "last_side", None))
        if train and not self.is_initializing() and "batch_stats" in self.variables:
            _check_mutable(self)
        return network.__call__(self, x, train=train, timesteps=timesteps, share=share)

    names = ("__module__", "__qualname__", "__doc__")
    members = {name: getattr(network, name) for name in names}
    return type(network.__name__, (network,), members | {"__call__": call})


def _check_mutable(module):
    if not module.is_mutable_collection("batch_stats"):
        raise ValueError(
            "train=True would lose the running statistics of the norms. Pass "
            "mutable=['batch_stats'] to apply and keep what it returns, or train=False."
        )


def check_input(x, timesteps=None, last_side=None):
    """Raise ValueError where x is not [B, T, H, W, C] of a size that fits.

    Args:
      timesteps: of the call; x has as many, or one that is repeated.
      last_side: side of images -> side of the network's last map, 0 where it does not fit.
    """
    shape = tuple(x.shape)
    if len(shape) == 4:
        raise ValueError(
            f"x has the shape {shape}, expected [B, T, H, W, C] with a time axis. For images "
            "[B, H, W, C] pass x[:, None] and timesteps=T."
        )
    if len(shape) != 5 or 0 in shape:
        raise ValueError(f"x has the shape {shape}, expected [B, T, H, W, C], each at least 1.")
    _, length, height, width, channels = shape
    if height <= 3 and width == channels >= 8:
        raise ValueError(
            f"x has the shape {shape}, which is channels first: expected [B, T, H, W, C]. "
            "Pass jnp.moveaxis(x, 2, -1)."
        )
    if timesteps is not None and (timesteps < 1 or length not in (1, timesteps)):
        raise ValueError(
            f"x has {length} timesteps and timesteps={timesteps}: expected an x of 1 timestep, "
            f"which is repeated, or of {timesteps}."
        )
    small = last_side and [side for side in (height, width) if last_side(side) < 1]
    if small:
        raise ValueError(
            f"x has images of {height} x {width}, which do not fit this network: its pools leave "
            f"nothing of a side of {small[0]}. Use larger images or another network."
        )

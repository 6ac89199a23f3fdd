"""The table of networks, and building one of them from pieces."""

import functools
from dataclasses import fields

import jax.numpy as jnp

from dalif_jax import neurons
from dalif_jax.attention import ATTENTION
from dalif_jax.networks import resnet, vgg
from dalif_jax.networks.parts import Parts, conv_init, linear_init
from dalif_jax.norms import NORMS
from dalif_jax.ops import wide_sums
from dalif_jax.ops.convolution import convolve

NETWORKS = {
    "resnet18": resnet.RESNET18,
    "resnet34": resnet.RESNET34,
    "resnet19": resnet.RESNET19,
    "resnet20": resnet.RESNET20,
    "vgg16": vgg.VGG16,
    "vgg11": vgg.VGG11,
    "small": resnet.SMALL,
    "mini": resnet.MINI,
    "tiny": resnet.TINY,
}


def add(name, network):
    """Make a network known by a name: (classes, parts, ...) -> a Flax module whose call takes
    (x, train=False, timesteps=None, share=1.0) and returns logits [B, T, classes].

    Where it has them, `last_side(side)` is asked whether images of that side fit, `nir(graph)` for
    its nodes and `answers()` how many it gives in training; see resnet.py.

    Raises:
      ValueError: the name is taken.
    """
    if NETWORKS.get(name, network) is not network:
        raise ValueError(f"model={name!r} is taken; choose another name")
    NETWORKS[name] = network


def own_options(name):
    """{option: its default} of a network: its fields but for those that every one is given."""
    network = NETWORKS[name](classes=1, parts=None)
    every = ("classes", "parts", "parent", "name")
    return {f.name: getattr(network, f.name) for f in fields(network) if f.name not in every}


def last_side(name, side, **own):
    """Side of a named network's last map for images of `side` pixels; 0 where they do not fit."""
    network = NETWORKS[name](classes=1, parts=None, **own)
    return network.last_side(side) if hasattr(network, "last_side") else side


def answers(name, **own):
    """How many answers a named network gives of an example while training."""
    network = NETWORKS[name](classes=1, parts=None, **own)
    return network.answers() if hasattr(network, "answers") else 1


def build(
    name,
    classes,
    neuron="dalif",
    dtype=jnp.float32,
    *,
    norm="batch",
    attention="none",
    norm_options=None,
    attention_options=None,
    statistic=None,
    mesh=None,
    pallas=False,
    **own,
):
    """The named network as a Flax module.

    Its call takes x [B, T, H, W, C], or an image shown at every timestep as x [B, 1, H, W, C] and
    `timesteps=T`: the first convolution and norm then run once, not T times, with the same result.
    It returns logits [B, T, classes].

    Args:
      name: a key of NETWORKS; norm of NORMS, attention of ATTENTION, with {option: value} each.
      classes: number of logits.
      neuron: of every neuron layer: a name, or neurons.options(name, ...).
      dtype: of convolutions and activations; parameters, norms and membranes are wider.
      statistic: of membranes, see neurons.SpikingNeuron; a loss may ask for it.
      mesh: of the devices that train it; bfloat16 gradients are then summed across them in
        float32 (wide_sums). Inference needs none.
      pallas: whether neurons run as Pallas kernels on the mesh's GPUs (fused.spikes).
      own: the network's own options, see own_options.
    Raises:
      ValueError: unknown name or option.
    """
    for key, given, table in (
        ("model", name, NETWORKS), ("norm", norm, NORMS), ("attention", attention, ATTENTION)
    ):  # fmt: skip
        if given not in table:
            raise ValueError(f"unknown {key} {given!r}; known: {', '.join(table)}")
    for key in own:
        if key not in own_options(name):
            raise ValueError(
                f"model={name} has no option {key!r}; its own are: {', '.join(own_options(name))}"
            )
    options = neurons.options(neuron) if isinstance(neuron, str) else neuron
    wide = jnp.result_type(float)
    Conv, conv_keys, Dense, dense_keys = wide_sums.layers(dtype, mesh, convolve)

    def conv(width, kernel, stride, use_bias=False, name=None):
        # Explicit padding: 'SAME' at stride 2 would pad the other side than the papers' networks.
        pad = ((kernel // 2, kernel // 2),) * 2
        return Conv(
            width, (kernel,) * 2, (stride,) * 2, pad, use_bias=use_bias,
            kernel_init=conv_init, dtype=dtype, param_dtype=wide,
            name=name, **conv_keys,
        )  # fmt: skip

    spiking = functools.partial(neurons.SpikingNeuron, options, mesh if pallas else None, statistic)

    attention_module = ATTENTION[attention]
    if attention_module is not None:
        attention_module = functools.partial(attention_module, **(attention_options or {}))

    def attending(name):
        """Attention on the current, then the neuron."""
        attend = attention_module(name=name.replace("neuron", "attention"))
        neuron, why = spiking(name=name), getattr(attend, "refuses_stream", "")

        def fire(x, train, share=1.0):
            if why and neuron.streams():
                raise ValueError(f"attention={attention} does not stream: {why}")
            return neuron(attend(x, train), train, share)

        return fire

    own_norm = functools.partial(NORMS[norm].module, dtype=dtype, **(norm_options or {}))

    def norm_module(summed=False, **keys):
        """Branches are nothing to a norm that has no such field."""
        return (
            own_norm(summed=summed, **keys) if hasattr(own_norm(), "summed") else own_norm(**keys)
        )

    parts = Parts(
        conv,
        norm_module,
        spiking if attention_module is None else attending,
        functools.partial(
            Dense, kernel_init=linear_init, dtype=dtype, param_dtype=wide, **dense_keys
        ),
        attention_module,
        getattr(own_norm(), "identity", False),
    )
    return NETWORKS[name](classes=classes, parts=parts, **own)

"""The table of networks, and building one of them from pieces."""

import functools
import numbers
from dataclasses import fields

import jax.numpy as jnp

from dalif_jax import neurons
from dalif_jax.attention import ATTENTION
from dalif_jax.networks import ds_resnet, ms_resnet, plifnet, resnet, sew, stsa, three_conv, vgg
from dalif_jax.networks.inputs import checked
from dalif_jax.networks.parts import Parts, conv_init, linear_init
from dalif_jax.norms import NORMS
from dalif_jax.ops import wide_sums
from dalif_jax.ops.convolution import convolve
from dalif_jax.suggest import did_you_mean

NETWORKS = {
    "resnet18": resnet.RESNET18,
    "resnet34": resnet.RESNET34,
    "resnet19": resnet.RESNET19,
    "resnet20": resnet.RESNET20,
    "vgg16": vgg.VGG16,
    "vgg11": vgg.VGG11,
    "vggsnn": vgg.VGGSNN,
    "resnet17": resnet.RESNET17,
    "sew_resnet18": sew.SEW_RESNET18,
    "sew_resnet34": sew.SEW_RESNET34,
    "net_7b": sew.NET_7B,
    "widenet_7b": sew.WIDENET_7B,
    "widenet_7b_glif": sew.WIDENET_7B_GLIF,
    "ms_resnet18": ms_resnet.MS_RESNET18,
    "ms_resnet34": ms_resnet.MS_RESNET34,
    "ms_resnet104": ms_resnet.MS_RESNET104,
    "ds_resnet14": ds_resnet.DS_RESNET14,
    "ds_resnet20": ds_resnet.DS_RESNET20,
    "ds_resnet32": ds_resnet.DS_RESNET32,
    "ds_resnet20_gesture": ds_resnet.DS_RESNET20_GESTURE,
    "plifnet_gesture": plifnet.PLIFNET_GESTURE,
    "plifnet_dvs": plifnet.PLIFNET_DVS,
    "plifnet_cifar10": plifnet.PLIFNET_CIFAR10,
    "three_conv": three_conv.THREE_CONV,
    "five_conv": three_conv.FIVE_CONV,
    "sts_transformer": stsa.STSTransformer,
    "fast": vgg.FAST,
    "small": resnet.SMALL,
    "mini": resnet.MINI,
    "tiny": resnet.TINY,
}
# config.kernel: what runs as Pallas kernels on NVIDIA GPUs, see `build`.
KERNELS = {"xla": False, "pallas": True, "pallas_norm": "norm"}


def add(name, network):
    """Make a network known by a name: (classes, parts, ...) -> a Flax module whose call takes
    (x, train=False, timesteps=None, share=1.0) and returns logits [B, T, classes].

    Where it has them, `misfit()` is asked why its options cannot be, `last_side(side)` whether
    images of that side fit, `nir(graph)` for its nodes and `answers()` how many it gives in
    training; see resnet.py.

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


def misfit(name, **own):
    """Why a named network cannot be with these options of its own, else ""."""
    network = NETWORKS[name](classes=1, parts=None, **own)
    return network.misfit() if hasattr(network, "misfit") else ""


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
      pallas: whether neurons run as Pallas kernels on the mesh's GPUs (fused.spikes), "norm": which
        also take the norm before them and the sum between (fused.scaled_spikes).
      own: the network's own options, see own_options.
    Raises:
      ValueError: unknown name or option.
    """
    for key, given, table in (
        ("model", name, NETWORKS), ("norm", norm, NORMS), ("attention", attention, ATTENTION)
    ):  # fmt: skip
        if given not in table:
            raise ValueError(
                f"unknown {key} {given!r}; known: {', '.join(table)}" + did_you_mean(given, table)
            )
    for key in own:
        if key not in own_options(name):
            raise ValueError(
                f"model={name} has no option {key!r}; its own are: {', '.join(own_options(name))}"
            )
    if not isinstance(classes, numbers.Integral) or isinstance(classes, bool) or classes < 1:
        raise ValueError(f"classes={classes!r} must be an integer of at least 1")
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"dtype={dtype!r} must be a float dtype, as float32 or bfloat16")
    options = neurons.options(neuron) if isinstance(neuron, str) else neuron
    wide = jnp.result_type(float)
    Conv, conv_keys, Dense, dense_keys = wide_sums.layers(dtype, mesh, convolve)

    def conv(width, kernel, stride, use_bias=False, kernel_init=conv_init, name=None):
        # Explicit padding: 'SAME' at stride 2 would pad the other side than the papers' networks.
        pad = ((kernel // 2, kernel // 2),) * 2
        return Conv(
            width, (kernel,) * 2, (stride,) * 2, pad, use_bias=use_bias,
            kernel_init=kernel_init, dtype=dtype, param_dtype=wide, name=name, **conv_keys,
        )  # fmt: skip

    spiking = functools.partial(neurons.SpikingNeuron, options, mesh if pallas else None, statistic)

    def attending(name):
        if ATTENTION[attention] is None:
            return lambda x, train: x
        attend = ATTENTION[attention](name=name, **(attention_options or {}))
        why = getattr(attend, "refuses_stream", "")

        def act(x, train):
            if why and attend.is_mutable_collection("stream") and not attend.is_initializing():
                raise ValueError(f"attention={attention} does not stream: {why}")
            return attend(x, train)

        return act

    def neuron_module(name):
        """Attention on the current, then the neuron."""
        attend, fire = attending(name.replace("neuron", "attention")), spiking(name=name)
        return lambda x, train, share=1.0: fire(attend(x, train), train, share)

    # Attention would act on the current between them.
    defers = pallas == "norm" and ATTENTION[attention] is None
    own_norm = functools.partial(NORMS[norm].module, dtype=dtype, **(norm_options or {}))

    def norm_module(name=None, **told):
        """A norm is told what it has fields for."""
        has = {field.name for field in fields(own_norm())}
        told["deferred"] = told.get("deferred", False) and defers
        return own_norm(name=name, **{key: value for key, value in told.items() if key in has})

    parts = Parts(
        conv,
        norm_module,
        spiking if ATTENTION[attention] is None else neuron_module,
        functools.partial(
            Dense, kernel_init=linear_init, dtype=dtype, param_dtype=wide, **dense_keys
        ),
        attending,
        getattr(own_norm(), "identity", False),
        spiking,
    )
    return checked(NETWORKS[name])(classes=int(classes), parts=parts, **own)

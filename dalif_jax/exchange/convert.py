"""One network made of another with the same weights: norms folded away, rates into spikes."""

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from dalif_jax import neurons, training
from dalif_jax.analysis.summary import neuron_layers
from dalif_jax.data import sets
from dalif_jax.neurons.linear import membrane_threshold
from dalif_jax.settings import config
from dalif_jax.training.inside import layer_of

# What says how a learned or fixed decay is had: nothing to a neuron whose numbers are as they are.
DECAYS = (
    "decay_function", "decay_init", "learn_alpha", "learn_beta", "alpha", "beta", "per_channel",
)  # fmt: skip


def _told(settings, **keys):
    """A copy of settings with other keys, the neuron's own options gone."""
    settings = settings.copy_and_resolve_references()
    base = config.base_config()
    keys = {key: base[key] for key in DECAYS} | keys
    with settings.unlocked():
        settings.neuron_options = base.neuron_options
        settings.update(keys)
    return settings


def _shape(settings):
    spec = sets.spec(settings.dataset, settings.frame_size, settings.found)
    return settings.timesteps, *spec.shape


def fold_membrane_norms(settings, params, stats):
    """A trained network without the norms of its membranes: their thresholds, one a channel.

    The same spikes: scale (h - mean) / sqrt(var + eps) + bias reaches the threshold where h reaches
    V = (threshold - bias) sqrt(var + eps) / scale + mean, from above where scale is negative. A
    scale of 0 fires always or never: V is then infinite.

    Args:
      settings: of a run with membrane_bn; params, stats: its params and batch_stats, NumPy.
    Returns:
      (settings of neuron=folded, params, stats).
    Raises:
      ConfigError: the run has no membrane norms.
    """
    if not settings.membrane_bn:
        raise config.ConfigError("this network has no norms on its membranes (membrane_bn=False)")
    if settings.membrane_bn_elementwise:
        raise config.ConfigError(
            "membrane_bn_elementwise=True has a threshold for each neuron of a map, and "
            "neuron=folded one for each channel"
        )
    options = config.neuron_options(settings)
    model = training.build_model(settings)
    flat, flat_stats = (flatten_dict(tree, sep="/") for tree in (params, stats))
    for name in neuron_layers(model, _shape(settings)):
        own, running = layer_of(params, name), layer_of(stats, name)
        dtype = own["norm_scale"].dtype
        own, running = jax.tree.map(np.float64, (own, running))
        scale = own["norm_scale"]
        decays = neurons.of(options).decays(options, own)
        with np.errstate(divide="ignore", invalid="ignore"):
            level = membrane_threshold(options, own, running["norm_mean"], running["norm_var"])
        never = np.where(own["norm_bias"] >= options.threshold, -np.inf, np.inf)
        values = {
            "alpha": decays[0], "beta": decays[1], "sign": np.where(scale < 0, -1.0, 1.0),
            "V": np.where(scale == 0, never, level),
        }  # fmt: skip
        for key in own:
            del flat[f"{name}/{key}"]
        for key in ("mean", "var"):
            del flat_stats[f"{name}/norm_{key}"]
        for key, value in values.items():
            flat[f"{name}/{key}"] = np.broadcast_to(np.asarray(value, dtype), scale.shape).copy()
    params, stats = (unflatten_dict(tree, sep="/") for tree in (flat, flat_stats))
    return _told(settings, neuron="folded", membrane_bn=False), params, stats


def to_diet(settings, params, images, *, timesteps, percentile=99.7, scale=0.2, steps=100, only=""):
    """A trained network of rectified units as Diet-SNN: the same weights, thresholds from currents.

    Layer by layer, with the thresholds before already set and a leak of 1, `steps` timesteps are
    run; a layer's threshold is the largest of their percentiles of its currents, and all are
    multiplied by `scale` at the end (Rathi and Roy, TNNLS 2021, and its code).

    Args:
      settings: of a run with neuron=relu and norm=none; params: its params, NumPy.
      images: some of the training set, uint8 [B, H, W, C].
      timesteps: of the network to be.
      percentile, scale: 0 to 100, and above 0.
      only: names of layers start with this where thresholds are measured; others keep 0.4.
    Returns:
      (settings of neuron=diet, params, {layer: threshold}).
    Raises:
      ConfigError: the network is no such.
    """
    if settings.neuron != "relu" or settings.norm != "none":
        raise config.ConfigError(
            f"neuron={settings.neuron}, norm={settings.norm}: Diet-SNN takes the weights of a "
            "network of rectified linear units without norms, neuron=relu and norm=none"
        )
    settings = _told(settings, neuron="diet", surrogate="bell", timesteps=timesteps, threshold=0.4)
    model = training.build_model(settings)
    names = list(neuron_layers(model, _shape(settings)))
    spec = sets.spec(settings.dataset, settings.frame_size, settings.found)
    x = training.prepare(jnp.asarray(images), spec, jnp.dtype(settings.dtype))[:, 0]
    dtype = jnp.result_type(float)
    measured = {}

    def with_thresholds():
        found = flatten_dict(params, sep="/")
        for name in names:
            found[f"{name}/leak"] = np.ones((), dtype)
            found[f"{name}/threshold"] = np.asarray(measured.get(name, np.inf), dtype)
        return unflatten_dict(found, sep="/")

    @jax.jit
    def largest(params, x):
        """{layer: the largest percentile of its currents over the steps}."""

        def step(state, _):
            _, new = model.apply(
                {"params": params, "stream": state}, x[:, None], train=False,
                mutable=["stream", "tap_current"],
            )  # fmt: skip
            seen = {name: layer_of(new["tap_current"], name)["value"] for name in names}
            return new["stream"], {k: jnp.percentile(v, percentile) for k, v in seen.items()}

        first = step({}, None)[0]
        nothing = jax.tree.map(jnp.zeros_like, first)
        return jax.tree.map(lambda v: v.max(0), jax.lax.scan(step, nothing, None, steps)[1])

    for name in names:
        if name.startswith(only):
            measured[name] = float(largest(with_thresholds(), x)[name])
            if not measured[name] > 0:
                raise config.ConfigError(
                    f"{name}: {percentile} % of its currents are below 0, which is no threshold; "
                    "the network is hardly trained"
                )
        else:
            measured[name] = 0.4 / scale
    measured = {name: value * scale for name, value in measured.items()}
    return settings, with_thresholds(), measured

"""A trained network as a NIR graph (Neuromorphic Intermediate Representation), and back.

DA-LIF is exactly NIR's LIF under forward Euler with step dt:

    tau dv/dt = v_leak - v + r I  ->  v' = (1 - dt/tau) v + (dt/tau) r I
    tau = dt / (1 - beta), r = alpha / (1 - beta), v_leak = 0, v_reset = 0

By default alpha / (1 - beta) is folded into the weights before the neuron and r = 1, which other
tools read alike. Norms are folded into weights, membrane norms into thresholds; shortcuts without
weights become 1x1 convolutions, as do sums of branches; a linear layer becomes a convolution with
a kernel of the whole map, or 1x1 of the [C, 1, 1] average, so that no flattening (which tools count
from different axes) is needed. Arrays are NIR's: [C, H, W],
kernels [out, in, kh, kw]. What the graph takes is the normalised image, the same at every timestep,
or counts of events. A neuron here fires at or above its threshold, in NIR above it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dalif_jax import neurons
from dalif_jax.analysis.summary import watching
from dalif_jax.exchange.graphs import DT, NotRepresentable, run  # noqa: F401  run: of what `read` gives
from dalif_jax.exchange.nir_file import read, write  # noqa: F401
from dalif_jax.networks import layer_kind
from dalif_jax.neurons.linear import membrane_threshold
from dalif_jax.norms import NORMS


def to_nir(
    model, variables, options, shape, *, norm="batch", fold_gain=True, average_pool=False, dt=DT
):
    """The nir.NIRGraph of a trained network, in float64.

    Args:
      model: from networks.build.
      variables: {"params", "batch_stats"}.
      options: its neurons.options.
      shape: (H, W, C) of one timestep's input.
      norm: its norm's name.
      fold_gain: False keeps the weights and gives every neuron its r.
      average_pool: AvgPool2d nodes, for tools without SumPool2d.
      dt: seconds of a timestep, > 0; tau is in its terms, and it is in the graph's metadata.
    Raises:
      NotRepresentable: beta outside [0, 1), a membrane norm whose scale is not positive, a neuron,
        a norm, attention or a network that has no form there, dt that is no time.
    """
    if not 0 < dt < np.inf:
        raise NotRepresentable(f"dt={dt} is no time: seconds above 0")
    kind = neurons.of(options)
    if kind.decays is None and kind.lifs is None:
        why = neurons.refusal(options, "nir") or "its step is no LIF's"
        raise NotRepresentable(f"neuron={options.name} has no form in NIR: {why}")
    if NORMS[norm].fold is None:
        raise NotRepresentable(f"norm={norm} is no factor and shift that fold into weights")
    if not hasattr(model, "nir"):
        raise NotRepresentable(f"{type(model).__name__} has no form in NIR here")
    fold = functools.partial(_folded, NORMS[norm].fold, model.parts.norm)
    graph = _Graph(variables, options, fold, fold_gain, average_pool, dt)
    height, width, channels = shape
    graph.add("input", "Input", (channels, height, width))
    last = model.nir(graph)  # a network that has no form says why itself
    _refuse_attention(model, shape)
    return graph.finish(last)


def _refuse_attention(model, shape):
    """Raise NotRepresentable if the network calls an attention module. Nothing is computed."""

    def refuse(call, args, kwargs, context):
        if layer_kind(context.module) == "attention":
            kind, path = type(context.module).__name__, "/".join(context.module.path)
            raise NotRepresentable(f"attention {kind} at {path} has no form in NIR")
        return call(*args, **kwargs)

    with watching(refuse):
        jax.eval_shape(
            lambda: model.init(jax.random.key(0), jnp.zeros((1, 1, *shape)), train=False)
        )


def _folded(fold, norm, params, stats, summed):
    return fold(norm(summed=summed), params, stats)


class _Graph:
    """Nodes and edges as they are added; a pool's factor waits for the next weights."""

    def __init__(self, variables, options, fold, fold_gain, average_pool, dt):
        wide = lambda leaf: np.asarray(jax.device_get(leaf), np.float64)  # noqa: E731
        self.params = jax.tree.map(wide, dict(variables["params"]))
        self.stats = jax.tree.map(wide, dict(variables["batch_stats"]))
        self.options, self.fold = options, fold
        self.fold_gain, self.average_pool = fold_gain, average_pool
        self.dt, self.nodes, self.edges, self.shapes, self.factor = dt, {}, [], {}, {}

    def add(self, name, kind, shape, sources=(), **values):
        import nir

        name = name.replace("/", ".")
        if kind in ("Input", "Output"):
            values = {f"{kind.lower()}_type": np.array(shape)}
        self.nodes[name] = getattr(nir, kind)(**values)
        self.shapes[name], self.factor[name] = tuple(shape), 1.0
        self.edges += [(source, name) for source in sources]
        return name

    def refuse(self, why):
        raise NotRepresentable(f"the network has no form in NIR: {why}")

    def at(self, tree, name):
        for key in name.split("/"):
            tree = tree.get(key, {})
        return tree

    def lifs(self, neuron):
        """[(alpha, beta, threshold)] of the LIFs whose spikes add up to a layer's."""
        own, kind = self.at(self.params, neuron), neurons.of(self.options)
        if kind.lifs is None:
            found = [(*kind.decays(self.options, own), self.threshold(neuron, own))]
        else:
            found = kind.lifs(self.options, own)
        found = [tuple(np.asarray(value, np.float64) for value in lif) for lif in found]
        for _, beta, _ in found:
            if not ((beta >= 0) & (beta < 1)).all():
                raise NotRepresentable(
                    f"{neuron}: beta = {beta.min():.6g} to {beta.max():.6g}; NIR's LIF has "
                    "tau = dt / (1 - beta): 0 <= beta < 1 (tanh of a large b is 1 in float32)"
                )
        return found

    def threshold(self, neuron, own):
        """What the raw membrane must reach, a number or [C]."""
        stats = self.at(self.stats, neuron)
        if self.options.membrane_bn and not (own["norm_scale"] > 0).all():
            raise NotRepresentable(
                f"{neuron}: the membrane norm's scale is not positive in every channel, so that "
                "it is no threshold; convert.py --to=folded makes one of it"
            )
        running = (stats["norm_mean"], stats["norm_var"]) if stats else ()
        return membrane_threshold(self.options, own, *running)

    def gain(self, neuron):
        """What the weights before a neuron, or None, are multiplied with, a scalar or [C]."""
        if neuron is None:
            return np.ones(())
        alpha, beta, _ = self.lifs(neuron)[0]  # those of one layer share the current
        return alpha / (1 - beta) if self.fold_gain else np.ones_like(alpha)

    def norm(self, name, channels, summed):
        """(factor, shift) of a norm layer, [C] each; 1 and 0 of None."""
        if name is None:
            return np.ones(channels), np.zeros(channels)
        own = self.at(self.params, name), self.at(self.stats, name)
        return (np.broadcast_to(value, channels) for value in self.fold(*own, summed))

    def conv(self, name, norm, neuron, source, stride, kernel, summed=False):
        """A convolution and its norm, or None, in front of a neuron, or None: of what is added
        up, or pooled, first."""
        own = self.at(self.params, name)
        weight = own["kernel"].transpose(3, 2, 0, 1)
        factor, shift = self.norm(norm, len(weight), summed)
        channels, height, width = self.shapes[source]
        if weight.shape[1] != channels:
            raise NotRepresentable(f"{name}: a grouped convolution is not exported")
        bias = own.get("bias", 0.0) * factor + shift
        gain = np.broadcast_to(self.gain(neuron), factor.shape)
        weight = weight * (factor * gain)[:, None, None, None] * self.factor[source]
        pad = kernel // 2
        out = [(size + 2 * pad - kernel) // stride + 1 for size in (height, width)]
        return self._conv(name, source, weight, bias * gain, stride, pad, (len(bias), *out))

    def linear(self, name, neuron, source, norm=None):
        """A linear layer of a whole map, its norm and the neurons behind it, where they have a
        name."""
        own, (channels, *size) = self.params[name], self.shapes[source]
        weight = own["kernel"].T.reshape(-1, *size, channels).transpose(0, 3, 1, 2)
        factor, shift = self.norm(norm, len(weight), False)
        gain = np.broadcast_to(self.gain(neuron), len(weight))
        bias = own.get("bias", 0.0) * factor + shift
        weight = weight * (factor * gain)[:, None, None, None] * self.factor[source]
        last = self._conv(name, source, weight, bias * gain, 1, 0, (len(weight), 1, 1))
        return self.neuron(neuron, [last]) if neuron else last

    def identity(self, name, neuron, source, norm=None):
        channels = self.shapes[source][0]
        factor, shift = self.norm(norm, channels, True)
        gain = np.broadcast_to(self.gain(neuron), channels)
        weight = np.diag(factor * gain * self.factor[source])[:, :, None, None]
        return self._conv(name, source, weight, shift * gain, 1, 0, self.shapes[source])

    def norm_only(self, name, source):
        """A norm in front of a convolution, whose borders are padded after it."""
        channels = self.shapes[source][0]
        factor, shift = self.norm(name, channels, False)
        weight = np.diag(factor * self.factor[source])[:, :, None, None]
        return self._conv(name, source, weight, shift, 1, 0, self.shapes[source])

    def sum(self, name, sources):
        """What comes from several nodes as one."""
        sources = [s if self.factor[s] == 1 else self.scaled(f"{s}/mean", s) for s in sources]
        weight = np.eye(self.shapes[sources[0]][0])[:, :, None, None]
        bias = np.zeros(len(weight))
        return self._conv(name, sources, weight, bias, 1, 0, self.shapes[sources[0]])

    def scaled(self, name, source):
        """What a pool gives with its factor, where no weights follow."""
        shape = self.shapes[source]
        weight = self.factor[source] * np.eye(shape[0])[:, :, None, None]
        return self._conv(name, source, weight, np.zeros(shape[0]), 1, 0, shape)

    def fire(self, neuron, source):
        """Neurons behind what no weights scale: a sum, a pool."""
        return self.neuron(neuron, [self.identity(f"{neuron}/current", neuron, source)])

    def average(self, name, source):
        """The mean over a whole map; a map of 1 x 1 is its own."""
        _, height, width = self.shapes[source]
        if height != width:
            raise NotRepresentable(f"the last map is {height}x{width}; a square one is needed")
        return source if height == 1 else self.pool(name, source, height, 1)

    def _conv(self, name, sources, weight, bias, stride, pad, shape):
        sources = [sources] if isinstance(sources, str) else sources
        return self.add(
            name, "Conv2d", shape, sources, input_shape=self.shapes[sources[0]][1:],
            weight=weight, bias=bias, stride=(stride, stride), padding=(pad, pad), dilation=(1, 1),
            groups=1,
        )  # fmt: skip

    def pool(self, name, source, window, stride, pad=0):
        channels, *size = self.shapes[source]
        out = [(n + 2 * pad - window) // stride + 1 for n in size]
        kind = "AvgPool2d" if self.average_pool else "SumPool2d"
        pairs = {"kernel_size": window, "stride": stride, "padding": pad}
        before = self.factor[source]
        name = self.add(
            name, kind, (channels, *out), [source],
            **{key: np.array([value, value]) for key, value in pairs.items()},
        )  # fmt: skip
        self.factor[name] = before if self.average_pool else before / window**2
        return name

    def neuron(self, name, sources):
        shape, lifs = self.shapes[sources[0]], self.lifs(name)

        def full(value):
            # Every parameter has the layer's whole shape: some tools take nothing else.
            channels, *size = shape
            whole = np.broadcast_to(value, (*size, channels)).transpose(2, 0, 1)
            return np.ascontiguousarray(whole)

        def lif(name, alpha, beta, threshold):
            r = np.ones(()) if self.fold_gain else alpha / (1 - beta)
            return self.add(
                name, "LIF", shape, sources, tau=full(self.dt / (1 - beta)), r=full(r),
                v_leak=full(0.0), v_threshold=full(threshold), v_reset=full(0.0),
            )  # fmt: skip

        if len(lifs) == 1:
            return lif(name, *lifs[0])
        each = [lif(f"{name}/level{i}", *numbers) for i, numbers in enumerate(lifs)]
        return self.sum(name, each)  # what is behind takes from one node

    def finish(self, last):
        import nir

        self.add("output", "Output", self.shapes[last], [last])
        return nir.NIRGraph(
            self.nodes, self.edges, metadata={"dt": self.dt, "neuron": self.options.name},
            type_check=False,
        )  # fmt: skip

"""The benchmarked networks in PyTorch with SpikingJelly 2.0, layer for layer those of
`dalif_jax/networks/`; module names are its parameter names, so weights carry over by name.

Activations are [T, B, C, H, W], SpikingJelly's layout; its `layer` modules fold T and B for
convolution and norm, as its own models do.
"""

import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import nn

_RECT = surrogate.Rect(alpha=1.0)


def dalif_step(x, u, a, b):
    """One timestep of DA-LIF: (spike, membrane after its hard reset)."""
    h = torch.tanh(b) * u + torch.tanh(a) * x
    s = _RECT(h - 1.0)
    return s, h * (1.0 - s)


class DALIF(nn.Module):
    """DA-LIF by SpikingJelly's FlexSN, which makes a kernel of `dalif_step` on CUDA.

    Membranes are float32 under autocast, as on the other side.
    """

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.ones(()))
        self.b = nn.Parameter(torch.ones(()))
        self.flex = neuron.FlexSN(dalif_step, num_states=1, static_inputs=(self.a, self.b))

    def forward(self, x):
        return self.flex(x.to(self.a.dtype)).to(x.dtype)


class Unrolled(nn.Module):
    """DA-LIF as a plain loop over time, for torch.compile."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.ones(()))
        self.b = nn.Parameter(torch.ones(()))

    def forward(self, x):
        u, spikes = torch.zeros_like(x[0], dtype=self.a.dtype), []
        for x_t in x.to(self.a.dtype).unbind(0):
            h = torch.tanh(self.b) * u + torch.tanh(self.a) * x_t
            s = _Spike.apply(h - 1.0)
            u = h * (1.0 - s)
            spikes.append(s)
        return torch.stack(spikes).to(x.dtype)


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v >= 0).to(v.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (v,) = ctx.saved_tensors
        return gradient * (v.abs() < 0.5).to(v.dtype)


def plif():
    """SpikingJelly's own parametric LIF: one learned decay, simpler than DA-LIF."""
    return neuron.ParametricLIFNode(step_mode="m", surrogate_function=_RECT)


# dalif_compiled and dalif_eager are the plain loop; the worker compiles the former.
NEURONS = {"dalif": DALIF, "plif": plif, "dalif_eager": Unrolled, "dalif_compiled": Unrolled}


# Our names of a neuron's numbers: SpikingJelly's.
NUMBERS = {
    "plif": {"w": "w"},
    "klif": {"k": "k"},
    "glif": {
        "gate_a": "alpha", "gate_b": "beta", "gate_g": "gamma", "tau": "tau", "v": "v_threshold",
        "leak": "linear_decay", "drop": "v_subreset", "c": "conduct",
    },
}  # fmt: skip


def layer_of(name, timesteps, channels):
    """SpikingJelly's own neuron of our name, with the rectangle as surrogate."""
    if name == "glif":
        return neuron.GatedLIFNode(timesteps, channels, surrogate_function=_RECT)
    kinds = {"lif": neuron.LIFNode, "plif": neuron.ParametricLIFNode, "klif": neuron.KLIFNode}
    return kinds[name](step_mode="m", surrogate_function=_RECT)


def conv(cin, cout, kernel, stride, bias=False):
    return layer.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=bias, step_mode="m")


def norm(channels):
    return layer.BatchNorm2d(channels, step_mode="m")


class Block(nn.Module):
    def __init__(self, cin, width, stride, neuron, pooled_shortcut):
        super().__init__()
        self.shortcut_pool = None
        self.shortcut_conv = None
        if stride != 1 or cin != width:
            if pooled_shortcut and stride > 1:
                self.shortcut_pool = layer.AvgPool2d(stride, stride, step_mode="m")
            self.shortcut_conv = conv(cin, width, 1, 1 if self.shortcut_pool else stride)
            self.shortcut_norm = norm(width)
        self.conv0, self.norm0, self.neuron0 = conv(cin, width, 3, stride), norm(width), neuron()
        self.conv1, self.norm1, self.neuron1 = conv(width, width, 3, 1), norm(width), neuron()

    def forward(self, x):
        shortcut = x
        if self.shortcut_conv is not None:
            shortcut = self.shortcut_pool(x) if self.shortcut_pool else x
            shortcut = self.shortcut_norm(self.shortcut_conv(shortcut))
        y = self.neuron0(self.norm0(self.conv0(x)))
        return self.neuron1(self.norm1(self.conv1(y)) + shortcut)


class ResNet(nn.Module):
    def __init__(self, neuron, channels, classes, stem, blocks, widths, strides,
                 stem_pool=None, pooled_shortcut=False):  # fmt: skip
        super().__init__()
        self.order = []

        def add(name, module):
            self.add_module(name, module)
            self.order.append(module)

        for i, (kernel, width, stride) in enumerate(stem):
            add(f"stem{i}_conv", conv(channels, width, kernel, stride))
            add(f"stem{i}_norm", norm(width))
            add(f"stem{i}_neuron", neuron())
            channels = width
        if stem_pool:
            add("stem_pool", layer.AvgPool2d(*stem_pool, step_mode="m"))
        for i, (count, width, stride) in enumerate(zip(blocks, widths, strides, strict=True)):
            for j in range(count):
                first = stride if j == 0 else 1
                add(f"stage{i}_block{j}", Block(channels, width, first, neuron, pooled_shortcut))
                channels = width
        self.head = layer.Linear(channels, classes, step_mode="m")

    def forward(self, x):
        for module in self.order:
            x = module(x)
        return self.head(x.mean((-2, -1)))


class VGG(nn.Module):
    def __init__(self, neuron, channels, classes, layers):
        super().__init__()
        self.order, i = [], 0
        for width in layers:
            if width == "P":
                self.order.append(layer.AvgPool2d(2, 2, step_mode="m"))
                self.add_module(f"pool{len(self.order)}", self.order[-1])
                continue
            for name, module in (
                (f"conv{i}", conv(channels, width, 3, 1, bias=True)),
                (f"norm{i}", norm(width)),
                (f"neuron{i}", neuron()),
            ):
                self.add_module(name, module)
                self.order.append(module)
            channels, i = width, i + 1
        self.head = layer.Linear(channels, classes, step_mode="m")

    forward = ResNet.forward


_DEEP = {"blocks": (2, 2, 2, 2), "widths": (64, 128, 256, 512), "strides": (1, 2, 2, 2)}
# fmt: off
NETWORKS = {
    "resnet18": (ResNet, {"stem": ((7, 64, 2),), "stem_pool": (3, 2, 1)} | _DEEP),
    "resnet20": (ResNet, {"stem": ((3, 64, 1),) * 3, "stem_pool": (2, 2, 0),
                          "pooled_shortcut": True} | _DEEP),
    "resnet19": (ResNet, {"stem": ((3, 128, 1),), "blocks": (3, 3, 2),
                          "widths": (128, 256, 512), "strides": (1, 2, 2)}),
    "small": (ResNet, {"stem": ((3, 32, 2),), "blocks": (1, 1, 1), "widths": (32, 64, 128),
                       "strides": (1, 2, 2)}),
    "vgg11": (VGG, {"layers": (
        64, "P", 128, "P", 256, 256, "P", 512, 512, "P", 512, 512, "P")}),
}
# fmt: on


def build(network, neuron, channels, classes):
    """The named network with the named neuron; float32 parameters on the CPU."""
    kind, arguments = NETWORKS[network]
    return kind(NEURONS[neuron], channels, classes, **arguments)


def load(model, values):
    """Copy Flax parameters {path: array} into the model: HWIO kernels, [in, out] matrices."""
    for path, parameter in named(model).items():
        value = torch.as_tensor(values[path])
        if value.ndim == 4:
            value = value.permute(3, 2, 0, 1)
        elif value.ndim == 2:
            value = value.T
        with torch.no_grad():
            parameter.copy_(value)


def gradients(model):
    """{Flax path: gradient as Flax lays it out}."""
    out = {}
    for path, parameter in named(model).items():
        value = parameter.grad
        value = value.permute(2, 3, 1, 0) if value.ndim == 4 else value
        out[path] = (value.T if value.ndim == 2 else value).double().cpu().numpy()
    return out


def named(model):
    """{Flax path: parameter}: `weight` is `kernel` on convolutions and matrices, else `scale`."""
    out = {}
    for name, parameter in model.named_parameters():
        *parents, last = name.split(".")
        if last == "weight":
            last = "kernel" if parameter.ndim > 1 else "scale"
        out["/".join([*parents, last])] = parameter
    return out

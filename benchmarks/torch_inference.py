"""PyTorch's side of inference.py: SpikingJelly's step modes, snnTorch and a plain loop."""

from importlib import metadata

import numpy as np
import snntorch
import torch
import torch_networks as networks
from snntorch import surrogate as snn_surrogate
from spikingjelly.activation_based import functional
from torch import nn
from torch_worker import DEVICE, Step


class Stepped(nn.Module):
    """DA-LIF one timestep a call, its membrane kept between them."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.ones(()))
        self.b = nn.Parameter(torch.ones(()))
        self.u = None

    def reset(self):
        self.u = None

    def forward(self, x):
        h = torch.tanh(self.a) * x
        if self.u is not None:
            h = h + torch.tanh(self.b) * self.u
        s = (h >= 1.0).to(h.dtype)
        self.u = h * (1.0 - s)
        return s


class Leaky(snntorch.Leaky):
    """snnTorch's leaky neuron with a learned decay and a reset to zero."""

    def __init__(self):
        super().__init__(
            beta=0.76, threshold=1.0, learn_beta=True, init_hidden=True, reset_mechanism="zero",
            spike_grad=snn_surrogate.straight_through_estimator(),
        )  # fmt: skip

    def reset(self):
        self.reset_hidden()


networks.NEURONS |= {"stepped": Stepped, "snntorch": Leaky}


class Inference(Step):
    """The forward pass of a network that stays as it is initialised, on a batch already there.

    The spec's `mode`: m, all timesteps in a call; s, one.
    """

    def build(self):
        super().build()
        spec = self.spec
        self.model.eval()
        functional.set_step_mode(self.model, spec["mode"])
        self.resets = [m for m in self.model.modules() if hasattr(m, "reset")]
        one = spec["task"] == "latency"
        if one and self.x.ndim == 5:
            self.x = self.x[0]
        if one and spec["mode"] == "m":
            self.x = self.x[None]

    def reset(self):
        for module in self.resets:
            type(module).reset(module)  # snnTorch's layers keep a tensor under that name

    def answer(self, x):
        """Logits [T, B, classes] of x, [B, C, H, W] or [T, B, C, H, W]."""
        steps = self.spec["timesteps"]
        if self.spec["mode"] == "s":
            return torch.stack([self.forward(x[t] if x.ndim == 5 else x) for t in range(steps)])
        return self.forward(x if x.ndim == 5 else x.expand(steps, *x.shape))

    @torch.no_grad()
    def step(self):
        if self.spec["task"] == "latency":
            return self.forward(self.x)
        self.reset()
        return self.answer(self.x)

    def prepare(self):
        said = super().prepare()
        said["versions"]["snntorch"] = metadata.version("snntorch")
        return said

    @torch.no_grad()
    def gate(self, inputs, out):
        self.build()
        _, x = self.take(inputs)
        self.reset()
        logits = self.answer(x)
        np.savez(out, logits=logits.double().transpose(0, 1).cpu().numpy())
        return {"ok": True, "device": DEVICE}

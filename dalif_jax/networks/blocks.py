"""The block that SEW-ResNet and DS-ResNet are made of: both branches fire, then their spikes join.

    o = SN(norm(conv3x3(SN(norm(conv3x3(x))))))
    d = x, or SN(norm(conv1x1(x))) where the shape changes
    y = g(o, d)                                    add o + d, and o d, iand (1 - o) d; no neuron

As in the public code of both (Fang et al., NeurIPS 2021; Feng et al., IJCAI 2022).
"""

import flax.linen as nn

from dalif_jax.networks.parts import Join, Parts
from dalif_jax.suggest import did_you_mean

JOINS = ("add", "and", "iand")


def misfit(join):
    """Why branches cannot be joined so, else ""."""
    if join in JOINS:
        return ""
    return f"unknown join {join!r}; known: {', '.join(JOINS)}" + did_you_mean(join, JOINS)


class SEWBlock(nn.Module):
    """With `zero_init` it starts as the identity: the branch fires nothing, for `and` always.

    Always: where a current of 1 makes its neuron fire, as it does IF's; PLIF's then never fires."""

    width: int
    stride: int
    parts: Parts
    join: str = "add"
    zero_init: bool = False

    @nn.compact
    def __call__(self, x, train: bool, share=1.0):
        conv, norm, neuron = self.parts[:3]
        d = x
        if self.stride != 1 or x.shape[-1] != self.width:
            d = conv(self.width, 1, self.stride, name="shortcut_conv")(x)
            d = norm(name="shortcut_norm")(d, train)
            d = neuron(name="shortcut_neuron")(d, train, share)
        o = conv(self.width, 3, self.stride, name="conv0")(x)
        o = norm(name="norm0")(o, train)
        o = neuron(name="neuron0")(o, train, share)
        o = conv(self.width, 3, 1, name="conv1")(o)
        first = {"first_scale": 0.0, "first_bias": float(self.join == "and")}
        o = norm(name="norm1", **(first if self.zero_init else {}))(o, train)
        o = neuron(name="neuron1")(o, train, share)
        return Join(self.join, name="join")(o, d)

    @nn.nowrap
    def nir(self, graph, at, last):
        """Its nodes, named after `at`, behind `last`; returns the last."""
        if self.join != "add":
            graph.refuse(f"a product of spikes (join={self.join})")
        d = last
        if self.stride != 1 or graph.shapes[last][0] != self.width:
            d = f"{at}shortcut_neuron"
            of = graph.conv(f"{at}shortcut_conv", f"{at}shortcut_norm", d, last, self.stride, 1)
            d = graph.neuron(d, [of])
        for i, stride in enumerate((self.stride, 1)):
            names = (f"{at}{part}{i}" for part in ("conv", "norm", "neuron"))
            last = graph.neuron(f"{at}neuron{i}", [graph.conv(*names, last, stride, 3)])
        return graph.sum(f"{at}join", [last, d])

"""PLIFNet (PLIF, Fang et al., ICCV 2021): max-pooled spikes, two linear layers that fire, voting.

    (conv3x3, norm, neuron, 2x2 max pool) x 5 for DVS128 Gesture, x 4 for CIFAR10-DVS
    dropout, linear, neuron, dropout, linear to ten outputs a class, neuron, mean of the ten

Answers are rates: loss=mse. Linear layers have no bias and dropout draws one mask for all
timesteps, as in the authors' code. For CIFAR-10, 256 wide, no second dropout. In training, norms
use the statistics of each timestep and update the running ones T times, as in the authors' code;
`norm_per_step=False` takes all timesteps together.

Paper: https://arxiv.org/abs/2007.05785

Certainty: code. The networks are those of the authors' public code and logs.

Differences:
  1. From ASA-SNN's code (ICCV 2023): it takes the network for Gesture with biases and without
     dropout, its attention on the currents; here `head_bias=True` and `dropout=(0.0, 0.0)`.
  2. From SpikingJelly's edition: that has biases in its linear layers, a hidden layer of another
     width for CIFAR10-DVS, a second dropout for CIFAR-10, and norms over all timesteps together
     (`head_bias`, `hidden`, `dropout`, `norm_per_step=False`).
  3. From MA-SNN's paper: which network of five layers gave its 98.23 % is not public; this one is
     our choice.
"""

import functools
import math

import flax.linen as nn

from dalif_jax.networks.dropout import Dropout, misfit
from dalif_jax.networks.parts import MaxPool, Parts, Voting, show, uniform_init


class PLIFNet(nn.Module):
    classes: int
    parts: Parts
    layers: tuple[int | str, ...]  # widths; "P" pools
    hidden: int  # width of the first linear layer
    voters: int = 10  # outputs of a class
    dropout: tuple[float, float] = (0.5, 0.5)  # in front of the linear layers
    head_bias: bool = False
    norm_per_step: bool = True  # batch statistics of each timestep; False: of all together

    @nn.compact
    def __call__(self, x, train: bool = False, timesteps=None, share=1.0):
        conv, norm, neuron, dense = self.parts[:4]
        timesteps, i = timesteps or x.shape[1], 0
        for width in self.layers:
            if width == "P":
                x = MaxPool(2, 2, name=f"pool{i}")(x)
                continue
            x = conv(width, 3, 1, kernel_init=uniform_init, name=f"conv{i}")(x)
            # An image shown at all timesteps counts once in the running variance.
            x = norm(name=f"norm{i}", per_step=self.norm_per_step)(x, train)
            x = neuron(name=f"neuron{i}")(show(x, timesteps), train, share)
            i += 1
        x = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
        widths = (self.hidden, self.classes * self.voters)
        for name, width, rate in zip(("hidden", "head"), widths, self.dropout, strict=True):
            x = Dropout(rate, name=f"{name}_dropout")(x, train)
            x = dense(width, use_bias=self.head_bias, kernel_init=uniform_init, name=name)(x)
            x = neuron(name=f"{name}_neuron")(x, train, share)
        return Voting(self.voters, name="voting")(x)

    @nn.nowrap
    def misfit(self):
        if len(self.dropout) != 2:
            return f"model_options.dropout={self.dropout}: two rates expected, one a linear layer"
        if min(self.voters, self.hidden) < 1:
            return f"voters={self.voters} and hidden={self.hidden} must be at least 1"
        return misfit(dropout=self.dropout)

    @nn.nowrap
    def last_side(self, side):
        """Side of the last map for images of `side` pixels; 0 where a pool leaves nothing."""
        return side // 2 ** self.layers.count("P")

    @nn.nowrap
    def nir(self, graph):
        graph.refuse("a largest of neighbouring spikes (max pooling)")


PLIFNET_GESTURE = functools.partial(PLIFNet, layers=(128, "P") * 5, hidden=512)
PLIFNET_DVS = functools.partial(PLIFNet, layers=(128, "P") * 4, hidden=2048)
PLIFNET_CIFAR10 = functools.partial(
    PLIFNet, layers=(256, 256, 256, "P") * 2, hidden=2048, dropout=(0.5, 0.0)
)

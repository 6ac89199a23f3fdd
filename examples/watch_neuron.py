"""One DA-LIF neuron with an input gain and a leak set by hand: its membrane and its spikes.

    python -m examples.watch_neuron --alpha 0.76 --beta 0.76 --out runs/neuron.png

The input is the same for every setting: a weak current, a strong one, a pause, and noise.
"""

import argparse
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from dalif_jax import neurons
from dalif_jax.analysis import figures


def current(timesteps=60):
    """[timesteps]: 0.5, then 1.2, then nothing, then noise around 0.6; the same every time."""
    quarter = timesteps // 4
    noise = np.random.default_rng(0).normal(0.6, 0.5, timesteps - 3 * quarter)
    return np.concatenate([np.full(quarter, 0.5), np.full(quarter, 1.2), np.zeros(quarter), noise])


def simulate(alpha, beta, x):
    """(membranes h [T], spikes [T]) of a neuron with fixed decays for a current x [T]."""
    options = neurons.options(name="lif", alpha=alpha, beta=beta)
    x = jnp.asarray(x, jnp.float32)[None]
    _, spikes, (membranes, _) = neurons.simulate(options, {}, x)
    return np.asarray(membranes[0]), np.asarray(spikes[0])


def watch(alpha, beta, path="runs/neuron.png"):
    """Draw the neuron's input, membrane, threshold, resets and spikes as PNG; returns its path."""
    from matplotlib.figure import Figure

    x = current()
    h, spikes = simulate(alpha, beta, x)
    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 2.2])
    above.step(np.arange(1, len(x) + 1), x, where="mid", color=figures.GREY)
    above.set(ylabel="input x")
    after = np.concatenate([[0.0], np.where(spikes > 0, 0.0, h)])
    for t in range(len(h)):
        below.plot([t, t + 1], [after[t], h[t]], color=figures.BLUE, lw=1.4)
        if spikes[t]:
            below.plot([t + 1, t + 1], [h[t], 0], color=figures.ORANGE, ls=":", lw=1.2)
    when = np.flatnonzero(spikes)
    below.plot(when + 1, h[when], "o", color=figures.ORANGE, ms=4)
    below.axhline(1.0, color=figures.GREEN, ls="--", lw=1)
    below.set(xlabel="timestep", ylabel="membrane h")
    for axis in (above, below):
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"alpha = {alpha}, beta = {beta}: {len(when)} spikes", fontsize=11)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return Path(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--alpha", type=float, default=0.76, help="input gain")
    parser.add_argument("--beta", type=float, default=0.76, help="leak: what is kept of a membrane")
    parser.add_argument("--out", default="runs/neuron.png", help="the PNG file")
    given = parser.parse_args()
    print(f"drew {watch(given.alpha, given.beta, given.out)}")

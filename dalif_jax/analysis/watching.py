"""Pictures of one example: frames, answers, spikes and membranes over time."""

from pathlib import Path

import numpy as np

from dalif_jax.analysis.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    corner_note,
    plain_text,
    printable,
    save,
)


@plain_text
def sample(example, inside, label, path, classes=None, note="", neurons=48):
    """One example's frames, the answer over time, and the spikes of every layer, as PNG.

    Args:
      example: an image [H, W, C], or counts of events [T, H, W, 2]: darker to brighter events are
        drawn orange to blue.
      inside: inside.Inside; of each layer `neurons` are drawn, evenly spaced, as rows over time.
      label: the right class.
      classes: the classes' names; their numbers unless given.
    """
    spikes, logits = inside.spikes, inside.logits
    timesteps, layers = len(logits), list(spikes)
    classes = classes or [f"class {k}" for k in range(logits.shape[-1])]
    classes = [printable(name) for name in classes]
    # A legend leaves out what begins with an underscore.
    classes = [f" {name}" if name.startswith("_") else name for name in classes]
    shown = example if example.ndim == 4 else example[None]
    pick = np.unique(np.linspace(0, len(shown) - 1, min(len(shown), 8)).round().astype(int))
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(11, 3.0 + 0.75 * len(layers)), dpi=130, layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[2.8, 0.75 * len(layers) + 0.5])
    axes = above.subplots(1, len(pick) + 1, width_ratios=[*[1] * len(pick), 1.6], squeeze=False)[0]
    most = max(1, np.quantile(shown[shown > 0], 0.98) if (shown > 0).any() else 1)
    for axis, t in zip(axes, pick, strict=False):
        frame = shown[t]
        if example.ndim == 4:
            # White where nothing happened; brighter events blue, darker ones orange.
            off, on = (np.clip(frame[..., p, None] / most, 0, 1) for p in (0, 1))
            blue, orange = np.array([0.0, 0.45, 0.70]), np.array([0.84, 0.37, 0.0])
            frame = 1 - np.clip(on * (1 - blue) + off * (1 - orange), 0, 1)
        axis.imshow(frame, cmap="gray", interpolation="nearest")
        axis.set_xlabel(f"frame {t + 1}" if example.ndim == 4 else "image", fontsize=9)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("0.85")
    if example.ndim == 4:
        above.legend(
            [Patch(color=blue), Patch(color=orange), Patch(color="black")],
            ["ON events: brighter", "OFF events: darker", "both"],
            loc="outside upper left", ncols=3, frameon=False, fontsize=8,
        )  # fmt: skip
    # The network's answer after each timestep is that of the logits' mean so far.
    so_far = np.cumsum(logits, 0) / np.arange(1, timesteps + 1)[:, None]
    chance = np.exp(so_far - so_far.max(-1, keepdims=True))
    chance /= chance.sum(-1, keepdims=True)
    steps = np.arange(1, timesteps + 1)
    for k in range(chance.shape[1]):
        named = k in (label, so_far[-1].argmax())
        color = GREEN if k == label else ORANGE if named else GREY
        name = classes[k] + (", right" if k == label else "") if named else None
        if not named and "other classes" not in axes[-1].get_legend_handles_labels()[1]:
            name = "other classes"
        axes[-1].plot(steps, 100 * chance[:, k], marker=".", color=color, label=name,
                      alpha=1.0 if named else 0.4, zorder=3 if named else 2)  # fmt: skip
    axes[-1].set(xlabel="timestep", ylabel="probability (%)", ylim=(-3, 103))
    axes[-1].set_xticks(_few(steps))
    axes[-1].legend(frameon=False, fontsize=8)
    axes[-1].spines[["top", "right"]].set_visible(False)

    rasters = below.subplots(len(layers), 1, sharex=True, squeeze=False)[:, 0]
    for axis, name in zip(rasters, layers, strict=True):
        flat = np.asarray(spikes[name]).reshape(timesteps, -1)
        rows = np.unique(np.linspace(0, flat.shape[1] - 1, neurons).astype(int))
        extent = (0.5, timesteps + 0.5, len(rows), 0)
        axis.imshow(flat[:, rows].T, extent=extent, aspect="auto", cmap="Blues", vmin=0, vmax=1.2,
                    interpolation="none")  # fmt: skip
        if timesteps <= 16:  # so that spikes of neighbouring timesteps can be told apart
            axis.vlines(steps[1:] - 0.5, 0, len(rows), color="white", lw=2)
        axis.set(yticks=[])
        axis.set_ylabel(name.replace("/", "\n"), rotation=0, ha="right", va="center", fontsize=7)
        axis.text(1.005, 0.5, f"{flat.mean():.1%}", transform=axis.transAxes, fontsize=7,
                  va="center")  # fmt: skip
        axis.spines[["top", "right"]].set_visible(False)
    rasters[0].set_title(f"spikes of {neurons} neurons per layer, and the layer's firing rate",
                         fontsize=9, loc="left")  # fmt: skip
    rasters[-1].set(xlabel="timestep", xticks=_few(steps))
    corner_note(figure, note)
    save(figure, path)
    return Path(path)


@plain_text
def membranes(inside, path, note="", neurons=3, most=8):
    """Membranes of a few neurons of every layer over time, thresholds and resets, as PNG.

    Args:
      inside: inside.Inside. Of each layer those channels are drawn whose busiest neuron fires
        nearest to every third timestep: resets and pauses can both be seen.
      most: layers drawn, evenly from shallow to deep.
    """
    from matplotlib.figure import Figure

    names = list(inside.spikes)
    names = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, most).astype(int))]
    figure = Figure(figsize=(11, 1.25 * len(names) + 0.7), dpi=130, layout="constrained")
    rows = figure.subplots(len(names), neurons, sharex=True, squeeze=False)
    for row, name in zip(rows, names, strict=True):
        h, fired, reach = (
            each[name] for each in (inside.membranes, inside.spikes, inside.thresholds)
        )
        timesteps, channels = len(h), h.shape[-1]
        h, fired, reach = (y.reshape(timesteps, -1, channels) for y in (h, fired, reach))
        off = np.abs(fired.sum(0) - max(1, timesteps // 3)).astype(int)
        place = off.argmin(0)  # of every channel the neuron nearest to that
        order = np.argsort(off.min(0), kind="stable")[:neurons]
        for axis, channel in zip(row, order, strict=False):
            trace, spikes = h[:, place[channel], channel], fired[:, place[channel], channel]
            threshold = reach[:, place[channel], channel]
            left = np.where(spikes, 0.0, trace) if inside.hard_reset else trace
            axis.plot(1, trace[0], ".", color=BLUE, ms=3)  # the first membrane there is
            for t in range(timesteps):
                if t:
                    axis.plot([t, t + 1], [left[t - 1], trace[t]], color=BLUE, lw=1.2)
                if spikes[t] and inside.hard_reset:
                    axis.plot([t + 1, t + 1], [trace[t], 0], color=ORANGE, lw=1.2, ls=":")
            when = np.flatnonzero(spikes)
            axis.plot(when + 1, trace[when], "o", color=ORANGE, ms=3.5)
            if np.ptp(threshold):
                axis.step(np.arange(1, timesteps + 1), threshold, where="mid", color=GREEN, lw=1,
                          ls="--")  # fmt: skip
            else:
                axis.axhline(threshold[0], color=GREEN, lw=1, ls="--")
            axis.axhline(0, color="0.85", lw=0.8, zorder=0)
            axis.set_title(f"channel {channel}", fontsize=7, loc="left", pad=2, color="0.4")
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=7)
        row[0].set_ylabel(name.replace("/", "\n"), rotation=0, ha="right", va="center", fontsize=7)
    for axis in rows[-1]:
        axis.set(xlabel="timestep", xticks=_few(np.arange(1, timesteps + 1)),
                 xlim=(0.5, timesteps + 0.5))  # fmt: skip
    resets = " and resets to 0" if inside.hard_reset else ""
    figure.suptitle(f"membranes h: blue; spikes{resets}: orange; threshold: green", fontsize=9)
    corner_note(figure, note)
    save(figure, path)
    return Path(path)


def _few(steps):
    return steps if len(steps) <= 10 else steps[:: len(steps) // 8]

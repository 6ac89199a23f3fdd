"""Pictures of a run and of one example. The one file of the package that imports matplotlib."""

from pathlib import Path

import numpy as np

from dalif_jax.runlog import LogError, read_metrics

# Colours told apart with any colour vision (Okabe and Ito).
BLUE, ORANGE, GREEN, GREY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#999999", "#AA4499"


def panels(columns, width=5.0, height=3.6):
    # The object interface: no global state, no window, whatever the machine's backend.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height), dpi=150, layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _column(records, key):
    return np.array([record[key] for record in records], float)


def learning_curves(records, path):
    """Loss, accuracy and learning rate over epochs, from train and eval records, as PNG."""
    train = [r for r in records if r["kind"] == "train"]
    evals = [r for r in records if r["kind"] == "eval"]
    figure, (loss, accuracy, rate) = panels(3)
    for axis, key, factor in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        if train:
            axis.plot(_column(train, "epoch"), factor * _column(train, key),
                      color=BLUE, alpha=0.7, lw=1, label="training batches")  # fmt: skip
        if evals:
            split = evals[-1]["split"]
            axis.plot(_column(evals, "epoch"), factor * _column(evals, key),
                      color=ORANGE, marker=".", ms=4, label=split)  # fmt: skip
    if evals:
        best = max(evals, key=lambda r: r["accuracy"])
        last = evals[-1]
        accuracy.set_title(
            f"last epoch {last['accuracy']:.2%}, best {best['accuracy']:.2%} "
            f"(epoch {best['epoch']}, chosen on {best['split']})",
            fontsize=9,
        )
        accuracy.plot(best["epoch"], 100 * best["accuracy"], "o", mfc="none", color=GREEN, ms=9)
    if train:
        rate.plot(_column(train, "epoch"), _column(train, "learning_rate"), color=GREEN)
    loss.set(xlabel="epoch", ylabel="loss (nats)")
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)")
    rate.set(xlabel="epoch", ylabel="learning rate")
    loss.legend(frameon=False)
    figure.savefig(path)
    return Path(path)


def decay_curves(records, path):
    """Alpha and beta of every layer over epochs (paper, Fig. 3), shallow to deep, as PNG.

    Per-channel decays are drawn as their mean.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    evals = [r for r in records if r["kind"] == "eval"]
    names = list(evals[-1]["layers"])
    figure, axes = panels(2)
    # The scale reaches past the last layer, whose yellow would be too pale on white.
    scale = ScalarMappable(Normalize(1, 1.1 * max(len(names), 2)), colormaps["viridis"])
    for axis, key, meaning in zip(
        axes, ("alpha", "beta"), ("input gain (spatial)", "leak (temporal)"), strict=True
    ):
        for depth, name in enumerate(names, 1):
            curve = [np.mean(r["layers"][name][key]) for r in evals]
            axis.plot(_column(evals, "epoch"), curve, marker=".", ms=3, lw=1.2,
                      color=scale.to_rgba(depth))  # fmt: skip
        axis.set(xlabel="epoch", ylabel=f"{key}, {meaning}")
    bar = figure.colorbar(scale, ax=axes, label="neuron layer, shallow to deep")
    bar.ax.set_ylim(1, max(len(names), 2))
    bar.set_ticks(sorted({1, (1 + len(names)) // 2, max(len(names), 2)}))
    figure.savefig(path)
    return Path(path)


def firing_rates(records, path):
    """Firing rate of every layer at the last evaluation, beside the first one's, as PNG."""
    evals = [r for r in records if r["kind"] == "eval"]
    first, last = evals[0], evals[-1]
    names = list(last["layers"])
    figure, (axis,) = panels(1, width=max(5.0, 0.42 * len(names) + 2.5), height=4.2)
    place = np.arange(len(names))
    rates = [[100 * r["layers"][name]["firing_rate"] for name in names] for r in (first, last)]
    axis.bar(place, rates[1], color=BLUE, width=0.7, label=f"epoch {last['epoch']}")
    axis.plot(place, rates[0], "_", color=ORANGE, ms=14, mew=2, label=f"epoch {first['epoch']}")
    axis.set_xticks(place, names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set(ylabel="firing rate (% of neurons and timesteps)")
    axis.legend(frameon=False)
    figure.savefig(path)
    return Path(path)


def sample(example, inside, label, path, neurons=48):
    """One example's frames, the answer over time, and the spikes of every layer, as PNG.

    Args:
      example: an image [H, W, C], or counts of events [T, H, W, 2]: darker to brighter events are
        drawn orange to blue.
      inside: inside.Inside; of each layer `neurons` are drawn, evenly spaced.
      label: the right class.
    """
    spikes, logits = inside.spikes, inside.logits
    timesteps, layers = len(logits), list(spikes)
    shown = example if example.ndim == 4 else example[None]
    pick = np.unique(np.linspace(0, len(shown) - 1, min(len(shown), 8)).round().astype(int))
    from matplotlib.figure import Figure

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
    # The network's answer after each timestep is that of the logits' mean so far.
    so_far = np.cumsum(logits, 0) / np.arange(1, timesteps + 1)[:, None]
    chance = np.exp(so_far - so_far.max(-1, keepdims=True))
    chance /= chance.sum(-1, keepdims=True)
    steps = np.arange(1, timesteps + 1)
    for k in range(chance.shape[1]):
        named = k in (label, so_far[-1].argmax())
        color = GREEN if k == label else ORANGE if named else GREY
        note = f"class {k}" + (", right" if k == label else "") if named else None
        axes[-1].plot(steps, 100 * chance[:, k], marker=".", color=color, label=note,
                      alpha=1.0 if named else 0.4, zorder=3 if named else 2)  # fmt: skip
    axes[-1].set(xlabel="timestep", ylabel="probability (%)", ylim=(-3, 103))
    axes[-1].set_xticks(_few(steps))
    axes[-1].legend(frameon=False, fontsize=8)
    axes[-1].spines[["top", "right"]].set_visible(False)

    rasters = below.subplots(len(layers), 1, sharex=True, squeeze=False)[:, 0]
    for axis, name in zip(rasters, layers, strict=True):
        flat = np.asarray(spikes[name]).reshape(timesteps, -1)
        rows = np.unique(np.linspace(0, flat.shape[1] - 1, neurons).astype(int))
        axis.imshow(flat[:, rows].T, aspect="auto", cmap="Blues", vmin=0, vmax=1.2,
                    extent=(0.5, timesteps + 0.5, 0, len(rows)), interpolation="none")  # fmt: skip
        axis.set(yticks=[])
        axis.set_ylabel(name.replace("/", "\n"), rotation=0, ha="right", va="center", fontsize=7)
        axis.text(1.005, 0.5, f"{flat.mean():.1%}", transform=axis.transAxes, fontsize=7,
                  va="center")  # fmt: skip
        axis.spines[["top", "right"]].set_visible(False)
    rasters[0].set_title(f"spikes of {neurons} neurons a layer, and the layer's firing rate",
                         fontsize=9, loc="left")  # fmt: skip
    rasters[-1].set(xlabel="timestep", xticks=_few(steps))
    figure.savefig(path)
    return Path(path)


def membranes(inside, path, neurons=3, most=8):
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
        h, fired = inside.membranes[name], inside.spikes[name]
        timesteps, channels = len(h), h.shape[-1]
        h, fired = h.reshape(timesteps, -1, channels), fired.reshape(timesteps, -1, channels)
        off = np.abs(fired.sum(0) - max(1, timesteps // 3)).astype(int)
        place = off.argmin(0)  # of every channel the neuron nearest to that
        order = np.argsort(off.min(0), kind="stable")[:neurons]
        for axis, channel in zip(row, order, strict=False):
            trace, spikes = h[:, place[channel], channel], fired[:, place[channel], channel]
            threshold = np.broadcast_to(inside.thresholds[name], channels)[channel]
            before = np.concatenate([[0.0], np.where(spikes, 0.0, trace)])
            for t in range(timesteps):
                axis.plot([t, t + 1], [before[t], trace[t]], color=BLUE, lw=1.2)
                if spikes[t]:
                    axis.plot([t + 1, t + 1], [trace[t], 0], color=ORANGE, lw=1.2, ls=":")
            when = np.flatnonzero(spikes)
            axis.plot(when + 1, trace[when], "o", color=ORANGE, ms=3.5)
            axis.axhline(threshold, color=GREEN, lw=1, ls="--")
            axis.axhline(0, color="0.85", lw=0.8, zorder=0)
            axis.set_title(f"channel {channel}", fontsize=7, loc="left", pad=2, color="0.4")
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=7)
        row[0].set_ylabel(name.replace("/", "\n"), rotation=0, ha="right", va="center", fontsize=7)
    for axis in rows[-1]:
        axis.set(xlabel="timestep", xticks=_few(np.arange(timesteps + 1)))
    figure.suptitle(
        "membranes h: blue; spikes and resets to 0: orange; threshold: green", fontsize=9
    )
    figure.savefig(path)
    return Path(path)


def energy_layers(report, path):
    """Energy of an example in every layer with weights, ACs on MACs, by both rules, as PNG."""
    rows = [r for r in report["operations"] if r["kind"] in ("conv", "linear")]
    rest = [r for r in report["operations"] if r["kind"] not in ("conv", "linear")]
    names = [r["name"] for r in rows] + ["norms, pools"]
    figure, axes = panels(2, width=max(5.0, 0.2 * len(names) + 3.0), height=4.2)
    for axis, rule in zip(axes, ("paper", "exact"), strict=True):
        cost = {"macs": report["energy"]["mac_pj"], "acs": report["energy"]["ac_pj"]}
        bottom = np.zeros(len(names))
        for key, color in (("macs", ORANGE), ("acs", BLUE)):
            counts = [r[f"{rule}_{key}"] for r in rows] + [sum(r[f"{rule}_{key}"] for r in rest)]
            height = 1e-6 * cost[key] * np.array(counts)
            axis.bar(np.arange(len(names)), height, bottom=bottom, color=color, width=0.75,
                     label=f"{key[:-1].upper()}s, {cost[key]} pJ")  # fmt: skip
            bottom += height
        total = report["energy"][rule]["energy_uj"]
        axis.set_title(f"{rule}: {total:.4g} uJ an example", fontsize=9)
        axis.set_xticks(np.arange(len(names)), names, rotation=60, ha="right",
                        rotation_mode="anchor", fontsize=7)  # fmt: skip
        axis.set(ylabel="energy of an example (uJ)")
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path)
    return Path(path)


def confusion_matrix(report, path):
    """Examples by right class and answer, coloured by their share of the right class, as PNG."""
    table = np.array(report["confusion"])
    classes = len(table)
    figure, (axis,) = panels(
        1, width=min(3.0 + 0.35 * classes, 11), height=min(2.4 + 0.32 * classes, 10)
    )
    share = 100 * table / np.maximum(table.sum(1, keepdims=True), 1)
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    if classes <= 20:
        for i, j in np.ndindex(table.shape):
            if table[i, j]:
                axis.text(j, i, table[i, j], ha="center", va="center", fontsize=8,
                          color="white" if share[i, j] > 60 else "black")  # fmt: skip
        axis.set(xticks=range(classes), yticks=range(classes))
    axis.grid(False)
    axis.set(xlabel="answer", ylabel="right class")
    figure.colorbar(image, label="share of the right class (%)")
    figure.savefig(path, bbox_inches="tight")
    return Path(path)


def _few(steps):
    return steps if len(steps) <= 10 else steps[:: len(steps) // 8]


def draw_all(workdir):
    """Draw curves.png, decays.png and firing_rates.png into a workdir; returns their paths.

    Raises:
      LogError: the workdir has no metrics.jsonl, or it holds no records yet.
    """
    workdir = Path(workdir)
    path = workdir / "metrics.jsonl"
    if not path.is_file():
        raise LogError(f"{path} does not exist: there is nothing to draw curves from")
    records = read_metrics(path)
    if not records:
        raise LogError(f"{path} holds no records yet: nothing to draw")
    drawn = [learning_curves(records, workdir / "curves.png")]
    if any(r["kind"] == "eval" for r in records):
        drawn.append(decay_curves(records, workdir / "decays.png"))
        drawn.append(firing_rates(records, workdir / "firing_rates.png"))
    return drawn

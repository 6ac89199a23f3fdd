"""Pictures of a run, drawn from its metrics.jsonl. The one file that imports matplotlib."""

from pathlib import Path

import numpy as np

from dalif_jax.runlog import read_metrics

# Colours told apart with any colour vision (Okabe and Ito).
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"


def _figure(columns, width=5.0, height=3.6):
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
    figure, (loss, accuracy, rate) = _figure(3)
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
    figure, axes = _figure(2)
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
    figure, (axis,) = _figure(1, width=max(5.0, 0.42 * len(names) + 2.5), height=4.2)
    place = np.arange(len(names))
    rates = [[100 * r["layers"][name]["firing_rate"] for name in names] for r in (first, last)]
    axis.bar(place, rates[1], color=BLUE, width=0.7, label=f"epoch {last['epoch']}")
    axis.plot(place, rates[0], "_", color=ORANGE, ms=14, mew=2, label=f"epoch {first['epoch']}")
    axis.set_xticks(place, names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set(ylabel="firing rate (% of neurons and timesteps)")
    axis.legend(frameon=False)
    figure.savefig(path)
    return Path(path)


def draw_all(workdir):
    """Draw curves.png, decays.png and firing_rates.png into a workdir; returns their paths.

    Raises:
      FileNotFoundError: the workdir has no metrics.jsonl.
      ValueError: it holds no records yet.
    """
    workdir = Path(workdir)
    records = read_metrics(workdir / "metrics.jsonl")
    if not records:
        raise ValueError(f"{workdir / 'metrics.jsonl'} holds no records yet")
    drawn = [learning_curves(records, workdir / "curves.png")]
    if any(r["kind"] == "eval" for r in records):
        drawn.append(decay_curves(records, workdir / "decays.png"))
        drawn.append(firing_rates(records, workdir / "firing_rates.png"))
    return drawn

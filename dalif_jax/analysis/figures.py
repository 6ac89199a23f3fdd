"""Pictures of a run: curves, decays, firing rates, energy, confusion."""

import functools
import io
from pathlib import Path

import numpy as np

from dalif_jax.atomic_write import atomic_write

# Colours told apart with any colour vision (Okabe and Ito).
BLUE, ORANGE, GREEN, GREY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#999999", "#AA4499"


JOINERS = "\u200c\u200d"  # invisible, and part of words and of pictographs


def printable(text, most=60):
    """Text from elsewhere in a form that every figure, page and terminal can show.

    Line breaks, control characters and the halves of characters that stand for bytes which are not
    UTF-8 become U+FFFD; longer texts are cut to `most` characters.
    """
    text = str(text)
    text = text if len(text) <= most else text[: most - 1] + "\u2026"
    return "".join(c if c.isprintable() or c in JOINERS else "\ufffd" for c in text)


def plain_text(draw):
    """Decorate a function that draws: its texts are shown as they are, `$` and `_` included.

    Otherwise matplotlib reads `$` as the start of a formula, and a class called "$5_to_$10" ends
    the drawing.
    """

    @functools.wraps(draw)
    def drawn(*arguments, **keys):
        from matplotlib import rc_context

        with rc_context({"text.parse_math": False, "text.usetex": False}):
            return draw(*arguments, **keys)

    return drawn


def panels(count, width=5.0, height=3.6, across=4):
    """A figure and `count` axes, at most `across` of them in a row."""
    # The object interface: no global state, no window, whatever the machine's backend.
    from matplotlib.figure import Figure

    columns = min(count, across)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), dpi=150, layout="constrained")
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure, path, **options):
    """Write a figure as PNG, whole or not at all; `options` of Figure.savefig."""
    # Rendered in memory: an error in it leaves no file.
    picture = io.BytesIO()
    figure.savefig(picture, format="png", **options)
    atomic_write(path, picture.getvalue())


def corner_note(figure, note):
    """Which checkpoint a figure is of, small in its corner."""
    if note:
        figure.text(
            0.995, 0.005, printable(note, 200), ha="right", va="bottom", fontsize=7, color="0.4"
        )
        # Room below for it, whatever the layout gives the axes.
        figure.get_layout_engine().set(rect=(0, 0.2 / figure.get_figheight(), 1,
                                             1 - 0.2 / figure.get_figheight()))  # fmt: skip


def _column(records, key):
    return np.array([record[key] for record in records], float)


@plain_text
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
            split = printable(evals[-1]["split"])
            axis.plot(_column(evals, "epoch"), factor * _column(evals, key),
                      color=ORANGE, marker=".", ms=4, label=split)  # fmt: skip
    if evals:
        best = max(evals, key=lambda r: r["accuracy"])  # the first of equals
        last = evals[-1]
        accuracy.set_title(
            f"last epoch {last['accuracy']:.2%}, best {best['accuracy']:.2%} "
            f"(epoch {best['epoch']}, chosen on {printable(best['split'])})",
            fontsize=9,
        )
        accuracy.plot(best["epoch"], 100 * best["accuracy"], "o", mfc="none", color=GREEN, ms=9)
    if train:
        rate.plot(_column(train, "epoch"), _column(train, "learning_rate"), color=GREEN)
    loss.set(xlabel="epoch", ylabel="loss (nats)")
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)")
    rate.set(xlabel="epoch", ylabel="learning rate")
    loss.legend(frameon=False)
    save(figure, path)
    return Path(path)


@plain_text
def number_curves(records, path, meanings=None):
    """What the neurons of every layer show over epochs (paper, Fig. 3: alpha and beta), shallow to
    deep, as PNG.

    Numbers of channels are drawn as their mean.

    Args:
      meanings: {number: what it is, in a few words}.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    evals = [r for r in records if r["kind"] == "eval"]
    names, meanings = list(evals[-1]["layers"]), meanings or {}
    keys = numbers_of(evals)
    figure, axes = panels(len(keys), across=3 if len(keys) != 4 else 2)
    # The scale reaches past the last layer, whose yellow would be too pale on white.
    scale = ScalarMappable(Normalize(1, 1.1 * max(len(names), 2)), colormaps["viridis"])
    for axis, key in zip(axes, keys, strict=True):
        for depth, name in enumerate(names, 1):
            curve = [np.mean(np.array(r["layers"][name][key], float)) for r in evals]
            axis.plot(_column(evals, "epoch"), curve, marker=".", ms=3, lw=1.2,
                      color=scale.to_rgba(depth))  # fmt: skip
        meaning = f", {meanings[key]}" if key in meanings else ""
        axis.set(xlabel="epoch", ylabel=printable(f"{key}{meaning}"))
    bar = figure.colorbar(scale, ax=axes, label="neuron layer, shallow to deep")
    bar.ax.set_ylim(1, max(len(names), 2))
    bar.set_ticks(sorted({1, (1 + len(names)) // 2, max(len(names), 2)}))
    save(figure, path)
    return Path(path)


COUNTED = ("firing_rate", "spikes", "synaptic_operations")  # of every layer, whatever its neuron


def numbers_of(evals):
    """The names of the numbers that the neurons of evaluated layers show, as alpha and beta."""
    rows = [row for record in evals[-1:] for row in record["layers"].values()]
    return [key for key in rows[0] if key not in COUNTED] if rows else []


@plain_text
def firing_rates(records, path, step=None, note=""):
    """Firing rate of every layer at an evaluation, beside the first one's, as PNG.

    Args:
      step: of the evaluation; the last one's unless given, or where none was made at it.
    """
    evals = [r for r in records if r["kind"] == "eval"]
    first, last = evals[0], next((r for r in evals if r["step"] == step), evals[-1])
    names = list(last["layers"])
    figure, (axis,) = panels(1, width=max(5.0, 0.42 * len(names) + 2.5), height=4.2)
    place = np.arange(len(names))
    rates = [[100 * r["layers"][name]["firing_rate"] for name in names] for r in (first, last)]
    axis.bar(place, rates[1], color=BLUE, width=0.7, label=f"epoch {last['epoch']}")
    axis.plot(place, rates[0], "_", color=ORANGE, ms=14, mew=2, label=f"epoch {first['epoch']}")
    axis.set_xticks(
        place,
        [printable(name) for name in names],
        rotation=60,
        ha="right",
        rotation_mode="anchor",
        fontsize=8,
    )
    axis.set(ylabel="firing rate (%)")
    axis.legend(frameon=False)
    corner_note(figure, note)
    save(figure, path)
    return Path(path)


OWN_LINE = ("conv", "linear", "attention")  # kinds of layers with a line, or a bar, each
# What each rule counts, see operations.py.
RULES = {
    "paper": "every synapse, times the share of its inputs that spike;\nnorms and pools too, "
    "every layer at every timestep",
    "exact": "each synapse that a value other than 0 drives;\nnorms are in the weights, a still "
    "image enters once",
}


@plain_text
def energy_layers(report, path, note=""):
    """Energy of an example in every layer with weights, ACs on MACs, by both rules, as PNG.

    One scale for both, so that their bars can be compared.
    """
    rows = [r for r in report["operations"] if r["kind"] in OWN_LINE]
    rest = [r for r in report["operations"] if r["kind"] not in OWN_LINE]
    names = [printable(r["name"]) for r in rows] + ["norms, pools"]
    figure, axes = panels(2, width=max(5.0, 0.2 * len(names) + 3.0), height=4.6)
    axes[1].sharey(axes[0])
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
        axis.set_title(f"{rule}: {total:.4g} uJ an example\n{RULES[rule]}", fontsize=8.5)
        axis.set_xticks(np.arange(len(names)), names, rotation=60, ha="right",
                        rotation_mode="anchor", fontsize=7)  # fmt: skip
    axes[0].set(ylabel="energy of an example (uJ)")
    axes[0].set_ylim(0, 1.05 * axes[0].get_ylim()[1])
    axes[1].tick_params(labelleft=True)
    for axis in axes:
        axis.legend(frameon=False, fontsize=8)
    corner_note(figure, note)
    save(figure, path)
    return Path(path)


@plain_text
def confusion_matrix(report, path, names=None, note=""):
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
        names = [printable(name, 24) for name in names or range(classes)]
        axis.set_yticks(range(classes), names)
        slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axis.set_xticks(range(classes), names, **(slant if max(map(len, names)) > 2 else {}))
    axis.grid(False)
    axis.set(xlabel="answer", ylabel="right class")
    figure.colorbar(image, label="share of the right class (%)")
    if note:
        axis.set_title(printable(note, 200), fontsize=7, color="0.4")
    save(figure, path, bbox_inches="tight")
    return Path(path)


def log_axis(axis):
    """Make the horizontal axis logarithmic, with few, round ticks between its ends as they are."""
    axis.set_xscale("log")
    ticks = log_ticks(*axis.get_xlim())
    axis.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axis.tick_params(axis="x", which="minor", labelbottom=False)  # they would overlap


def log_ticks(low, high):
    """Round numbers of low..high that have room on an axis, at most five; at least three."""
    for factors in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
        decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
        every = [float(f"{f}e{power}") for power in decades for f in factors]
        inside = [tick for tick in every if low <= tick <= high]
        if len(inside) >= 3:
            return inside[:: -(-len(inside) // 5)]
    return [float(f"{tick:.3g}") for tick in np.geomspace(low, high, 5)[1:-1]]

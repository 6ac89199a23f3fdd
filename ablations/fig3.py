"""Fig. 3: alpha and beta of every layer over training, and the paper's three claims tested.

    python -m ablations.fig3 --config configs/digits.py --workdir runs/fig3 --seeds 5

1. "moved": training takes the decays away from where they start. For every layer, whether the 95 %
   interval of its end value over seeds leaves the start out.
2. "distinct": layers differ. Friedman's test over layers, seeds as blocks.
3. "depth": shallow layers are temporal, deep ones spatial: beta falls and alpha rises with depth.
   Spearman's correlation with depth per seed, and the interval of its mean.
"""

import json

import numpy as np

from ablations.runs import arguments, series
from ablations.statistics import (
    NOT_ENOUGH,
    Interval,
    friedman,
    interval,
    rank_correlation,
    rank_step,
)
from dalif_jax.settings import config as configs

# Decays are float32: what is nearer to the start than this, as its share, has not left it.
RESOLUTION = 1e-6


def claims(records, start):
    """The three claims, for alpha and beta each: {decay: {moved, distinct, depth}}.

    Args:
      records: of one setting, a seed each.
      start: {decay: value before training}.
    """
    layers = list(records[0]["decays"])
    found = {}
    for decay, rising in (("alpha", True), ("beta", False)):
        ends = np.array([[r["decays"][name][decay][-1] for name in layers] for r in records])
        ends = np.where(np.isclose(ends, start[decay], RESOLUTION, 0), start[decay], ends)
        moves = [interval(column - start[decay]) for column in ends.T]
        verdicts = {m.verdict for m in moves}
        moved = [n for n, m in zip(layers, moves, strict=True) if m.verdict in ("higher", "lower")]
        apart = friedman(ends.T)
        # Seeds that all end alike are one run, however surely its layers are in order.
        alike = len(ends) > 1 and not np.ptp(ends, axis=0).any()
        depth = interval([rank_correlation(row) for row in ends], rank_step(max(len(layers), 2)))
        still = verdicts == {"identical"}
        few = (
            f"{NOT_ENOUGH} seeds" if len(ends) < 2
            else f"{NOT_ENOUGH} spread" if alike and not still
            else None
        )  # fmt: skip
        wanted, opposite = ("higher", "lower") if rising else ("lower", "higher")
        found[decay] = {
            "moved": {
                "layers": moved, "of": len(layers),
                "largest": float(np.abs(ends.mean(0) - start[decay]).max()),
                "verdict": few if few else "not moved" if still
                else "supported" if len(moved) == len(layers)
                else "not resolved" if not moved else "supported in part",
            },
            "distinct": {
                "p": apart.p, "range": float(np.ptp(ends.mean(0))),
                "verdict": few if few
                else {"differ": "supported", "identical": "not distinct"}.get(
                    apart.verdict, apart.verdict
                ),
            },
            "depth": {
                **depth._asdict(), "expected": wanted,
                "verdict": few if few else "no order: all alike" if still
                else f"{NOT_ENOUGH} layers" if len(layers) < 3
                else {wanted: "supported", opposite: "contradicted"}.get(
                    depth.verdict, "not resolved"
                ),
            },
        }  # fmt: skip
    return found


def start(decay_function, decay_init):
    """{decay: value before training}: both start at f(decay_init)."""
    from dalif_jax.neurons.linear import DECAY_FUNCTIONS

    value = float(DECAY_FUNCTIONS[decay_function](float(decay_init)))
    return {"alpha": value, "beta": value}


def draw(records, start, path):
    """Decays over epochs, mean and range over seeds, and at the end over depth."""
    from matplotlib import colormaps

    from dalif_jax.analysis.figures import GREY, ORANGE, panels

    layers = list(records[0]["decays"])
    epochs = [epoch for epoch, _ in records[0]["curve"]]
    figure, axes = panels(4, width=4.4, height=3.8)
    meanings = {"alpha": "alpha, input gain (spatial)", "beta": "beta, leak (temporal)"}
    for i, (decay, meaning) in enumerate(meanings.items()):
        over, ends = axes[2 * i], axes[2 * i + 1]
        for depth, name in enumerate(layers):
            color = colormaps["viridis"](depth / (1.1 * len(layers)))
            curves = np.array([r["decays"][name][decay] for r in records])
            over.plot(epochs, curves.mean(0), color=color, lw=1.3,
                      marker="." if len(epochs) < 3 else None)  # fmt: skip
            over.fill_between(epochs, curves.min(0), curves.max(0), color=color, alpha=0.15, lw=0)
            end = curves[:, -1]
            ends.plot([depth + 1] * len(end), end, ".", color=color, alpha=0.5)
            ends.plot(depth + 1, end.mean(), "D", color=color)
        for axis in (over, ends):
            axis.axhline(start[decay], color=ORANGE, lw=1, ls="--")
        over.set(xlabel="epoch", ylabel=meaning)
        ends.set(xlabel="neuron layer, shallow to deep", ylabel=f"{decay} after training")
        ends.xaxis.get_major_locator().set_params(integer=True)
        ends.text(0.02, 0.98, "dashed: the start", transform=ends.transAxes, va="top", fontsize=8,
                  color=GREY)  # fmt: skip
    figure.savefig(path)


def lines(found):
    """The claims as printed."""
    text = {"moved": "moved from the start", "distinct": "distinct by layer",
            "depth": "shallow temporal, deep spatial"}  # fmt: skip
    for claim, title in text.items():
        for decay in ("alpha", "beta"):
            row = found[decay][claim]
            if claim == "moved":
                why = f"{len(row['layers'])} of {row['of']} layers, at most {row['largest']:.3g}"
            elif claim == "distinct":
                p = "" if row["p"] is None else f", Friedman p = {row['p']:.2g}"
                why = f"range over layers {row['range']:.3g}{p}"
            else:
                shown = Interval(*(row[key] for key in Interval._fields))
                why = f"rank correlation with depth {shown.text(1, '', (-1, 1))}"
            yield f"{title}, {decay}: {row['verdict']} ({why})"


def main():
    given, rest = arguments(__doc__)
    records = series(given, rest, {"both": {"neuron": "both"}})
    settings = configs.load(given.workdir / "both" / "seed0")
    begin = start(settings.decay_function, settings.decay_init)
    found = claims(records, begin)
    (given.workdir / "comparison.json").write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(lines(found)))
    draw(records, begin, given.workdir / "fig3.png")
    print(f"drew {given.workdir / 'fig3.png'}")


if __name__ == "__main__":
    main()

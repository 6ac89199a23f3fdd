"""Fig. 1(a): accuracy over a grid of fixed input gains (alpha) and leaks (beta).

    python -m ablations.fig1a --config configs/digits.py --workdir runs/fig1a --seeds 3

The paper finds up to 1.84 points between settings (the set is not named). Beside that spread, which
grows with the number of cells by chance alone, the spread that seeds give within a cell is printed.
"""

import json

import numpy as np
from scipy import stats

from ablations.runs import arguments, series

ALPHAS = (0.25, 0.5, 0.75, 1.0)
BETAS = (0.0, 0.25, 0.5, 0.75)


def grid(records, alphas=ALPHAS, betas=BETAS):
    """Accuracies [alphas, betas, seeds]."""
    return np.array(
        [
            [[r["accuracy"] for r in records if r["name"] == f"alpha{a}-beta{b}"] for b in betas]
            for a in alphas
        ]
    )


def test(values):
    """What the grid shows: {gap, seed_spread, p_alpha, p_beta}.

    gap: best minus worst cell mean. seed_spread: standard deviation within a cell. p: of a
    Friedman test, with seeds and the other decay as blocks, that the decay makes no difference.
    """
    spread = float(np.sqrt(values.var(-1, ddof=1).mean())) if values.shape[-1] > 1 else None
    means = values.mean(-1)
    by_alpha = values.reshape(len(values), -1)
    by_beta = values.swapaxes(0, 1).reshape(values.shape[1], -1)
    p = {"p_alpha": by_alpha, "p_beta": by_beta}
    return {
        "gap": float(means.max() - means.min()), "seed_spread": spread,
        **{key: float(stats.friedmanchisquare(*rows).pvalue) for key, rows in p.items()},
    }  # fmt: skip


def draw(values, path, alphas=ALPHAS, betas=BETAS):
    """The grid as a coloured table: mean and standard deviation of every cell."""
    from dalif_jax.analysis import panels

    figure, (axis,) = panels(1, width=6.2, height=4.6)
    means, axis_names = 100 * values.mean(-1), (betas, alphas)
    image = axis.imshow(means, cmap="viridis", origin="lower", aspect="auto")
    middle = (means.max() + means.min()) / 2
    for i, j in np.ndindex(means.shape):
        deviation = 100 * values[i, j].std(ddof=1) if values.shape[-1] > 1 else 0.0
        axis.text(j, i, f"{means[i, j]:.2f}\n± {deviation:.2f}", ha="center", va="center",
                  fontsize=9, color="white" if means[i, j] < middle else "black")  # fmt: skip
    axis.set_xticks(range(len(betas)), axis_names[0])
    axis.set_yticks(range(len(alphas)), axis_names[1])
    axis.grid(False)
    axis.set(xlabel="beta, leak (temporal)", ylabel="alpha, input gain (spatial)")
    figure.colorbar(image, label="test accuracy, last epoch (%)")
    figure.savefig(path)


def main():
    given, rest = arguments(__doc__, seeds=3)
    settings = {
        f"alpha{a}-beta{b}": {"neuron": "lif", "alpha": a, "beta": b} for a in ALPHAS for b in BETAS
    }
    values = grid(series(given, rest, settings))
    found = test(values)
    (given.workdir / "comparison.json").write_text(json.dumps(found, indent=1) + "\n")
    for key, title in (("p_alpha", "alpha"), ("p_beta", "beta")):
        verdict = "matters" if found[key] < 0.05 else "not resolved"
        print(f"{title}: {verdict} (Friedman test, p = {found[key]:.2g})")
    spread = found["seed_spread"]
    print(
        f"best cell minus worst: {100 * found['gap']:.2f} points; seeds within a cell: "
        + (f"standard deviation {100 * spread:.2f}" if spread is not None else "one only")
    )
    draw(values, given.workdir / "fig1a.png")
    print(f"drew {given.workdir / 'fig1a.png'}")


if __name__ == "__main__":
    main()

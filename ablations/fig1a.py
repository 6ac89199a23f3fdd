"""Fig. 1(a): accuracy over a grid of fixed input gains (alpha) and leaks (beta).

    python -m ablations.fig1a --config configs/digits.py --workdir runs/fig1a --seeds 3

`--alphas 0.75,1.0` and `--betas` take a part of the grid.

The paper finds up to 1.84 points between settings (the set is not named). Beside that spread, which
grows with the number of cells by chance alone, the spread that seeds give within a cell is printed.
"""

import json

import numpy as np

from ablations.runs import arguments, series
from ablations.statistics import NOT_ENOUGH, Test, friedman

ALPHAS = (0.25, 0.5, 0.75, 1.0)
BETAS = (0.0, 0.25, 0.5, 0.75)
WORDS = {"differ": "matters", "identical": "changes nothing"}


def grid(records, alphas=ALPHAS, betas=BETAS):
    """Accuracies [alphas, betas, seeds]; NaN where a run is missing."""
    seeds = sorted({r["seed"] for r in records})
    found = {(r["name"], r["seed"]): r["accuracy"] for r in records}
    return np.array(
        [
            [[found.get((f"alpha{a}-beta{b}", seed), np.nan) for seed in seeds] for b in betas]
            for a in alphas
        ]
    )


def cells(values):
    """Mean and standard deviation over seeds of every cell, NaN where its runs are too few."""
    shape = values.shape[:2]
    means, deviations = np.full(shape, np.nan), np.full(shape, np.nan)
    for i, j in np.ndindex(shape):
        there = values[i, j][np.isfinite(values[i, j])]
        if len(there):
            means[i, j] = there.mean()
        if len(there) > 1:
            deviations[i, j] = there.std(ddof=1)
    return means, deviations


def test(values):
    """What the grid shows: {gap, seed_spread, p_alpha, p_beta, verdicts: {alpha, beta}}.

    gap: best minus worst cell mean. seed_spread: standard deviation within a cell. p: of a
    Friedman test, with seeds and the other decay as blocks, that the decay makes no difference.
    What there are too few runs for is None.
    """
    means, deviations = cells(values)
    measured, known = means[np.isfinite(means)], deviations[np.isfinite(deviations)]
    found = {}
    for decay, axis in (("alpha", 0), ("beta", 1)):
        rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
        found[decay] = friedman(rows)
        # Cells of one seed share their start and their batches: together they are one run.
        if not len(known) and found[decay].verdict != "identical":
            found[decay] = Test(None, f"{NOT_ENOUGH} seeds")
    return {
        "gap": float(np.ptp(measured)) if len(measured) > 1 else None,
        "seed_spread": float(np.sqrt((known**2).mean())) if len(known) else None,
        **{f"p_{decay}": test.p for decay, test in found.items()},
        "verdicts": {decay: WORDS.get(t.verdict, t.verdict) for decay, t in found.items()},
    }


def lines(found):
    """What the grid shows, as printed."""
    for decay, verdict in found["verdicts"].items():
        p = found[f"p_{decay}"]
        yield f"{decay}: {verdict}" + (f" (Friedman test, p = {p:.2g})" if p is not None else "")
    if found["gap"] is not None:
        spread = found["seed_spread"]
        yield f"best cell minus worst: {100 * found['gap']:.2f} points; seeds within a cell: " + (
            f"standard deviation {100 * spread:.2f}" if spread is not None else "one only"
        )


def draw(values, path, alphas=ALPHAS, betas=BETAS):
    """The grid as a coloured table: mean and standard deviation of every cell."""
    from dalif_jax.analysis.figures import panels

    figure, (axis,) = panels(1, width=6.2, height=4.6)
    (means, deviations), axis_names = (100 * part for part in cells(values)), (betas, alphas)
    image = axis.imshow(means, cmap="viridis", origin="lower", aspect="auto")
    middle = (np.nanmax(means) + np.nanmin(means)) / 2
    for i, j in np.argwhere(np.isfinite(means)):
        text = f"{means[i, j]:.2f}"
        text += f"\n± {deviations[i, j]:.2f}" if np.isfinite(deviations[i, j]) else "\none run"
        axis.text(j, i, text, ha="center", va="center", fontsize=9,
                  color="white" if means[i, j] < middle else "black")  # fmt: skip
    axis.set_xticks(range(len(betas)), axis_names[0])
    axis.set_yticks(range(len(alphas)), axis_names[1])
    axis.grid(False)
    axis.set(xlabel="beta, leak (temporal)", ylabel="alpha, input gain (spatial)")
    figure.colorbar(image, label="test accuracy, last epoch (%)")
    figure.savefig(path)


def main():
    given, rest = arguments(__doc__, seeds=3, choices={"alphas": ALPHAS, "betas": BETAS})
    settings = {
        f"alpha{a}-beta{b}": {"neuron": "lif", "alpha": a, "beta": b}
        for a in given.alphas
        for b in given.betas
    }
    values = grid(series(given, rest, settings), given.alphas, given.betas)
    found = test(values)
    (given.workdir / "comparison.json").write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(lines(found)))
    draw(values, given.workdir / "fig1a.png", given.alphas, given.betas)
    print(f"drew {given.workdir / 'fig1a.png'}")


if __name__ == "__main__":
    main()

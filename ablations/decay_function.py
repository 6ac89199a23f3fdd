"""tanh against sigmoid as the function from the learned numbers to the decays (IV-D2).

    python -m ablations.decay_function --config configs/digits.py --workdir runs/functions

The paper: tanh ahead by 0.48 points on CIFAR-10 and 0.27 on CIFAR-100, ResNet-20, T = 4. Both start
at a = b = 1, tanh at 0.762, sigmoid at 0.731. tanh can reach decays below 0, which sigmoid cannot.
"""

import json

from ablations.runs import arguments, series
from ablations.statistics import interval, paired


def draw(records, found, path):
    """Every run a dot, those of one seed joined."""
    from dalif_jax.analysis import BLUE, GREY, panels

    figure, (axis,) = panels(1, width=4.6, height=4.2)
    for seed in sorted({r["seed"] for r in records}):
        pair = [
            next(100 * r["accuracy"] for r in records if (r["name"], r["seed"]) == (name, seed))
            for name in ("sigmoid", "tanh")
        ]
        axis.plot([0, 1], pair, ".-", color=GREY, lw=1)
    for place, name in enumerate(("sigmoid", "tanh")):
        mean = interval([100 * r["accuracy"] for r in records if r["name"] == name]).mean
        axis.plot(place, mean, "D", color=BLUE, ms=8)
    axis.set_xticks([0, 1], ["sigmoid", "tanh"])
    axis.set_title(
        f"tanh - sigmoid: {100 * found.mean:+.2f} points, 95 % interval\n{100 * found.low:+.2f} to "
        f"{100 * found.high:+.2f}: {found.verdict}", fontsize=9,
    )  # fmt: skip
    axis.set(xlim=(-0.4, 1.4), ylabel="test accuracy, last epoch (%)")
    figure.savefig(path)


def main():
    given, rest = arguments(__doc__)
    settings = {name: {"neuron": "both", "decay_function": name} for name in ("tanh", "sigmoid")}
    records = series(given, rest, settings)
    found = paired(records, "tanh", "sigmoid")
    row = {**found._asdict(), "verdict": found.verdict}
    (given.workdir / "comparison.json").write_text(json.dumps(row, indent=1) + "\n")
    print(
        f"tanh - sigmoid  {100 * found.mean:+.2f} points, 95 % interval {100 * found.low:+.2f} to "
        f"{100 * found.high:+.2f}: {found.verdict}"
    )
    draw(records, found, given.workdir / "decay_function.png")
    print(f"drew {given.workdir / 'decay_function.png'}")


if __name__ == "__main__":
    main()

"""Fig. 2: what each learned decay adds, arm by arm, paired over seeds.

    python -m ablations.fig2 --config configs/digits.py --workdir runs/fig2 --seeds 5

Arms: `baseline` (alpha 1, beta 0.25), `spatial` (alpha learned), `temporal` (beta learned), `both`
(DA-LIF), and `control`, both frozen where DA-LIF starts, which the paper does not have: what `both`
has over it is owed to learning, not to the start. At T = 1 beta has no effect (u[0] = 0).
"""

import json
import sys

from ablations.runs import arguments, series
from ablations.statistics import Interval, interval, paired

ARMS = ("baseline", "spatial", "temporal", "both", "control")
STEPS = (1, 2, 4)


def compare(records, arms=ARMS, steps=STEPS):
    """[{timesteps, arm, against, mean, low, high, seeds, verdict}], of accuracies in 0..1."""
    rows = []
    pairs = [(arm, "baseline") for arm in ARMS[1:]] + [("both", "control")]
    for t in steps:
        for arm, against in pairs:
            if arm not in arms or against not in arms:
                continue
            found = paired(records, f"T{t}-{arm}", f"T{t}-{against}")
            rows.append(
                {"timesteps": t, "arm": arm, "against": against, **found._asdict(),
                 "verdict": found.verdict}
            )  # fmt: skip
    return rows


def words(row):
    """Mean and interval of a row as printed."""
    return Interval(*(row[key] for key in Interval._fields)).text()


def draw(records, path, arms=ARMS, steps=STEPS):
    """Left: accuracy of every arm, each run a dot. Right: differences to the baseline."""
    from dalif_jax.analysis.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, panels

    colors = dict(zip(ARMS, (GREY, BLUE, ORANGE, GREEN, PURPLE), strict=True))
    figure, (left, right) = panels(2, width=5.6)
    for i, arm in enumerate(arms):
        shift = (i - (len(arms) - 1) / 2) * 0.14
        for place, t in enumerate(steps):
            values = [100 * r["accuracy"] for r in records if r["name"] == f"T{t}-{arm}"]
            label = arm if place == 0 else None
            left.plot(
                [place + shift] * len(values), values, ".", color=colors[arm], alpha=0.4, ms=5
            )
            if values:
                mean = interval(values).mean
                left.plot(place + shift, mean, "D", color=colors[arm], ms=5, label=label)
            if arm == "baseline" or "baseline" not in arms:
                continue
            gap = paired(records, f"T{t}-{arm}", f"T{t}-baseline")
            if gap.mean is None:
                continue
            half = None if gap.low is None else 100 * (gap.high - gap.mean)
            right.errorbar(
                place + shift, 100 * gap.mean, half, fmt="D", ms=5,
                color=colors[arm], capsize=3, label=label,
            )  # fmt: skip
    right.axhline(0, color="0.4", lw=1)
    for axis in (left, right):
        axis.set_xticks(range(len(steps)), [f"T = {t}" for t in steps])
        axis.set_xlim(-0.5, len(steps) - 0.5)
    left.set(ylabel="test accuracy, last epoch (%)")
    one = len({r["seed"] for r in records}) < 2
    title = "one seed: no interval" if one else "mean and 95 % interval"
    right.set(ylabel="difference to the baseline (points)", title=title)
    right.title.set_fontsize(9)
    left.legend(frameon=False, fontsize=8, ncols=2)
    figure.savefig(path)


def main():
    given, rest = arguments(__doc__, choices={"arms": ARMS, "steps": STEPS})
    if not compare([], given.arms, given.steps):
        print(f"error: --arms={','.join(given.arms)} leaves nothing to compare; differences are to "
              "baseline, and of both to control", file=sys.stderr)  # fmt: skip
        sys.exit(2)
    settings = {
        f"T{t}-{arm}": {"timesteps": t, "neuron": arm} for t in given.steps for arm in given.arms
    }
    records = series(given, rest, settings)
    rows = compare(records, given.arms, given.steps)
    (given.workdir / "comparison.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(
            f"T = {row['timesteps']}  {row['arm']:>8} against {row['against']:<8}  {words(row)}: "
            f"{row['verdict']}"
        )
    draw(records, given.workdir / "fig2.png", given.arms, given.steps)
    print(f"drew {given.workdir / 'fig2.png'}")


if __name__ == "__main__":
    main()

"""One key of the config, several values, compared over seeds.

    python -m ablations.key --key decay_function --values sigmoid,tanh \\
        --config configs/digits.py --workdir runs/functions

Every further value is paired with the first, seed by seed. With `decay_function` it is the paper's
IV-D2: tanh ahead by 0.48 points on CIFAR-10 and 0.27 on CIFAR-100, ResNet-20, T = 4. Worth asking
of a result, too: `membrane_bn` False,True and `threshold` 1.0,0.5, where public codes differ.
"""

import json
import sys

from ablations.runs import arguments, series
from ablations.statistics import Interval, interval, paired


def compare(records, names):
    """[{name, against, mean, low, high, seeds, verdict}]: every further setting minus the first."""
    rows = []
    for name in names[1:]:
        found = paired(records, name, names[0])
        rows.append(
            {"name": name, "against": names[0], **found._asdict(), "verdict": found.verdict}
        )
    return rows


def line(row):
    """A comparison as printed."""
    found = Interval(*(row[key] for key in Interval._fields))
    return f"{row['name']} - {row['against']}  {found.text()}: {row['verdict']}"


def draw(records, rows, names, path):
    """Every run a dot, those of one seed joined; diamonds: means."""
    from dalif_jax.analysis.figures import BLUE, GREY, panels

    figure, (axis,) = panels(1, width=max(4.6, 1.6 * len(names)), height=4.2)
    accuracy = {(r["name"], r["seed"]): 100 * r["accuracy"] for r in records}
    for seed in sorted({seed for _, seed in accuracy}):
        axis.plot([accuracy.get((name, seed), float("nan")) for name in names], ".-", color=GREY,
                  lw=1)  # fmt: skip
    for place, name in enumerate(names):
        mean = interval([value for (n, _), value in accuracy.items() if n == name]).mean
        axis.plot(place, mean, "D", color=BLUE, ms=8)
    axis.set_xticks(range(len(names)), [name.split("=")[1] for name in names])
    axis.set_title("\n".join(line(row).replace("points, ", "points,\n") for row in rows),
                   fontsize=8)  # fmt: skip
    axis.set(xlim=(-0.4, len(names) - 0.6), xlabel=names[0].split("=")[0],
             ylabel="test accuracy, last epoch (%)")  # fmt: skip
    figure.savefig(path)


def main():
    given, rest = arguments(
        __doc__,
        flags={
            "key": "a key of dalif_jax/settings/keys.py",
            "values": "its values, the reference first",
        },
    )
    settings = {f"{given.key}={value}": {given.key: value} for value in given.values.split(",")}
    names = list(settings)
    if len(names) < 2:
        print(f"error: --values={given.values} is one value, nothing to compare; give the "
              "reference and others, a,b", file=sys.stderr)  # fmt: skip
        sys.exit(2)
    records = series(given, rest, settings)
    rows = compare(records, names)
    (given.workdir / "comparison.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(line(row))
    path = given.workdir / f"{given.key}.png"
    draw(records, rows, names, path)
    print(f"drew {path}")


if __name__ == "__main__":
    main()

"""One key of the config, several values, compared over seeds; or a grid of keys, or random draws.

    python -m ablations.key --key decay_function --values sigmoid,tanh \\
        --config configs/digits.py --workdir runs/functions
    python -m ablations.key --grid learning_rate=0.05,0.1 --grid timesteps=2,4 \\
        --config configs/digits.py --workdir runs/grid
    python -m ablations.key --draw learning_rate=log:0.01:0.3 --draw weight_decay=0.0:1e-3 \\
        --draw 'timesteps=1|2|4' --trials 10 --config configs/digits.py --workdir runs/draws

Every further value is paired with the first, seed by seed. With `decay_function` it is the paper's
IV-D2: tanh ahead by 0.48 points on CIFAR-10 and 0.27 on CIFAR-100, ResNet-20, T = 4. Worth asking
of a result, too: `membrane_bn` False,True and `threshold` 1.0,0.5, where public codes differ.

A grid (ablations/sweep.py) is every combination, its reference the first value of each key; trials
are drawn, a function of `--draw_seed`, and compared with the recipe as it stands: `--trials 20`
later keeps the ten. Both end as a table, best first, verdicts corrected by Holm (comparison.md,
comparison.json), and a picture (sweep.png); a run that fails, as a learning rate may make it, is a
row with its reason. `sweep_table.page` makes comparison.md from results.json alone.
"""

import json
import sys

from ablations.checking import check, check_key
from ablations.runs import arguments, series
from ablations.statistics import Interval, interval, paired
from ablations.sweep import draws, grid
from ablations.sweep_table import comparisons, lines, page
from ablations.sweep_table import draw as draw_sweep
from dalif_jax.settings.config import ConfigError


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
    return f"{row['name']} against {row['against']}: {found.text()}, {row['verdict']}"


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


def one_key(given, rest):
    """The series of --key and --values. Raises ConfigError before anything is trained."""
    settings = {f"{given.key}={value}": {given.key: value} for value in given.values.split(",")}
    names = list(settings)
    if len(names) < 2:
        raise ConfigError(
            f"--values={given.values} is one value, nothing to compare; give the reference and "
            "others, a,b"
        )
    check_key("--key", given.key)
    check(given.config, rest, settings)
    records = series(given, rest, settings)
    rows = compare(records, names)
    (given.workdir / "comparison.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(line(row))
    path = given.workdir / f"{given.key}.png"
    draw(records, rows, names, path)
    print(f"drew {path}")


def sweep_of(given, rest):
    """The Sweep of --grid or --draw. Raises ConfigError."""
    if given.draw:
        found = draws(given.draw, given.trials, given.draw_seed or 0)
        given.parts = ("trials",)
    else:
        found = grid(given.grid)
    fixed = [word for word in rest if word.split("=")[0].removeprefix("--config.") in found.axes]
    if fixed:
        raise ConfigError(f"{fixed[0]} is of every run, and --{'draw' if given.draw else 'grid'} "
                          "varies that key; give one of them")  # fmt: skip
    check(given.config, rest, found.settings)
    return found


def several_keys(given, rest):
    """The series of --grid or --draw. Raises ConfigError before anything is trained."""
    found = sweep_of(given, rest)
    if (given.trials or 0) >= len(found.settings):
        print(f"{given.trials} trials, {len(found.settings) - 1} of them different")
    records = series(given, rest, found.settings, keep_failed=True)
    rows = comparisons(records)
    (given.workdir / "comparison.json").write_text(json.dumps(rows, indent=1) + "\n")
    text = page(json.loads((given.workdir / "results.json").read_text()))
    (given.workdir / "comparison.md").write_text("\n".join(text) + "\n")
    print("\n".join(lines(records)))
    if all("failed" in record for record in records):
        print("error: every run failed", file=sys.stderr)
        sys.exit(1)
    path = given.workdir / "sweep.png"
    draw_sweep(records, found.axes, path)
    print(f"wrote {given.workdir / 'comparison.md'}, drew {path}")


def kind_of(given):
    """one_key or several_keys, as the flags ask. Raises ConfigError where they do not agree."""
    asked = [flag for flag in ("key", "grid", "draw") if getattr(given, flag)]
    if len(asked) != 1:
        raise ConfigError(
            "give --key and --values, or --grid key=a,b, or --draw key=low:high and --trials"
            + (f"; not {' and '.join(f'--{flag}' for flag in asked)} together" if asked else "")
        )
    for flag, owner in (("values", "key"), ("trials", "draw"), ("draw_seed", "draw")):
        if getattr(given, flag) is not None and asked != [owner]:
            raise ConfigError(f"--{flag} goes with --{owner}, not with --{asked[0]}")
    if given.key and given.values is None:
        raise ConfigError(f"--key {given.key}: its --values are missing, a,b, the reference first")
    return one_key if given.key else several_keys


def main():
    given, rest = arguments(
        __doc__,
        options={
            "key": {"help": "a key of dalif_jax/settings/keys.py"},
            "values": {"help": "its values, the reference first"},
            "grid": {"action": "append", "metavar": "KEY=a,b",
                     "help": "every combination of several of these"},
            "draw": {"action": "append", "metavar": "KEY=RANGE",
                     "help": "low:high, log:low:high, whole where both ends are, or a|b|c"},
            "trials": {"type": int, "help": "how many draws"},
            "draw_seed": {"type": int, "help": "of the draws, 0 unless given"},
        },
    )  # fmt: skip
    try:
        kind_of(given)(given, rest)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

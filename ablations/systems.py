"""The compared systems under one recipe, over seeds: all of configs/systems.py or some of them.

    python -m ablations.systems --config configs/digits.py --workdir runs/systems --seeds 2

`results.json` in the workdir is what docs/systems.md is made from (docs/runs/systems_digits.json).
"""

from statistics import fmean

from ablations.runs import arguments, series
from configs.systems import SYSTEMS


def main():
    given, rest = arguments(__doc__, seeds=2, choices={"systems": tuple(SYSTEMS)})
    settings = {name: flat(SYSTEMS[name]) for name in given.systems}
    records = series(given, rest, settings)
    for name in given.systems:
        values = [r["accuracy"] for r in records if r["name"] == name]
        low, high = min(values), max(values)
        print(f"{name:10} {100 * fmean(values):6.2f} %  {100 * low:.2f} to {100 * high:.2f}")


def flat(keys):
    """{"norm_options.identity": True, ...} of nested keys, as a command line has them."""
    found = {}
    for key, value in keys.items():
        inner = value.items() if isinstance(value, dict) else ()
        found |= {f"{key}.{name}": own for name, own in inner} if inner else {key: value}
    return found


if __name__ == "__main__":
    main()

"""The compared systems under one recipe, over seeds: all of configs/systems.py or some of them.

    python -m ablations.systems --config configs/digits.py --workdir runs/systems --seeds 2

`results.json` in the workdir is what docs/systems.md is made from (docs/systems/digits.json).
"""

from statistics import fmean

from flax.traverse_util import flatten_dict

from ablations.runs import arguments, series
from configs.systems import SYSTEMS


def main():
    given, rest = arguments(__doc__, seeds=2, choices={"systems": tuple(SYSTEMS)})
    settings = {name: flatten_dict(SYSTEMS[name], sep=".") for name in given.systems}
    records = series(given, rest, settings)
    for name in given.systems:
        values = [r["accuracy"] for r in records if r["name"] == name]
        low, high = min(values), max(values)
        print(f"{name:10} {100 * fmean(values):6.2f} %  {100 * low:.2f} to {100 * high:.2f}")


if __name__ == "__main__":
    main()

"""A recipe as it stands, over seeds: how good it is and how much of that is luck.

    python -m ablations.recipe --config configs/digits_dvs.py --workdir runs/recipe --seeds 5

`results.json` in the workdir is what `ablations.results` takes, from docs/runs.
"""

from pathlib import Path
from statistics import fmean

from ablations.runs import arguments, series


def main():
    given, rest = arguments(__doc__)
    records = series(given, rest, {Path(given.config).stem: {}})
    for split in ("test", *records[0]["other_splits"]):
        values = [r["accuracy"] if split == "test" else r["other_splits"][split] for r in records]
        name = split.replace("_", " ")
        line = f"{name}: {100 * fmean(values):.2f} % after the last epoch"
        if len(values) == 1:
            line += ", one seed: not enough to say how far others lie from it"
        else:
            line += f", {100 * min(values):.2f} to {100 * max(values):.2f} over {len(values)} seeds"
        print(line)


if __name__ == "__main__":
    main()

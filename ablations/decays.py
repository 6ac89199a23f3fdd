"""DA-LIF's own claim where time has something to say: both decays against fewer, on event data.

    python -m ablations.decays --config configs/digits_dvs.py --workdir runs/decays

`dalif` learns a gain alpha and a leak beta for each layer, `tied` one number that is both, `plif`
one leak, `lif` none; `channels` is DA-LIF with a pair for each channel. Each with and without a
batch norm of membranes (with it alpha is inert, see docs/ablations/README.md) at every number of
timesteps, everything else the recipe's. Differences are from `dalif`, paired by seed.
"""

from statistics import median

from ablations.ranking import rank, written
from ablations.runs import arguments, series

NEURONS = {
    "dalif": {"neuron": "dalif"},
    "channels": {"neuron": "dalif", "per_channel": True},
    "tied": {"neuron": "tied"},
    "plif": {"neuron": "plif"},
    "lif": {"neuron": "lif"},
}
STEPS = (8, 16)
FAR = 12  # points: what lies further off would press all others into a line


def settings(steps=STEPS):
    """{"T8-dalif", "T8-mbn-dalif" and so on: {key: value}}."""
    return {
        f"T{t}-{'mbn-' * norm}{name}": {**keys, "membrane_bn": norm, "timesteps": t}
        for t in steps
        for norm in (False, True)
        for name, keys in NEURONS.items()
    }


def families(records):
    """[(timesteps, with a membrane norm, rows of `rank` against DA-LIF of the same)]."""
    found = {}
    for record in records:
        step, *norm, _ = record["name"].split("-")
        found.setdefault((int(step[1:]), bool(norm)), []).append(record)
    return [
        (t, norm, rank(of, f"T{t}-{'mbn-' * norm}dalif")) for (t, norm), of in sorted(found.items())
    ]


def draw(records, path):
    """A panel a number of timesteps and norm: differences from DA-LIF with their intervals.

    One of more than FAR points from the middle one is written in its line instead, and so is what
    failed.
    """
    from dalif_jax.analysis.figures import BLUE, panels

    found = families(records)
    figure, axes = panels(len(found), width=3.6, height=2.6, across=2)
    for axis, (t, norm, rows) in zip(axes, found, strict=True):
        others = [row for row in rows if row.difference]
        gaps = [row.difference.mean for row in others if row.difference.mean is not None]
        middle = median(gaps) if gaps else 0.0
        for place, row in enumerate(reversed(others)):
            gap, failed = row.difference, len(row.failed)
            told = f"{failed} of {failed + len(row.values)} runs failed" if failed else ""
            if gap.mean is None or abs(100 * (gap.mean - middle)) > FAR:
                written(axis, place, "\n".join(filter(None, (gap.text(unit=""), told))))
                continue
            axis.errorbar(
                100 * gap.mean, place, xerr=100 * gap.half, fmt="o", color=BLUE, ms=5, capsize=2
            )
            if failed:
                written(axis, place, told)
        names = [row.name.rsplit("-", 1)[1] for row in reversed(others)]
        axis.set_yticks(range(len(others)), names)
        axis.set_ylim(-0.5, len(others) - 0.5)
        axis.axvline(0, color="0.4", lw=1)
        axis.set_title(f"T = {t}{', membranes normed' if norm else ''}", fontsize=10)
        axis.set(xlabel="difference from dalif (points)")
    figure.savefig(path)


def main():
    given, rest = arguments(__doc__, choices={"steps": STEPS})
    records = series(given, rest, settings(given.steps), keep_failed=True)
    for t, norm, rows in families(records):
        print(f"T = {t}, membranes {'normed' if norm else 'as they are'}")
        for row in rows:
            print(f"  {row.text()}")


if __name__ == "__main__":
    main()

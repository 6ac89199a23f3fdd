"""Settings ranked by what they gave, each against one baseline over the seeds that both have.

Many comparisons with one baseline find differences by chance; their p values are corrected by
Holm's method (Scandinavian Journal of Statistics 6, 1979), which keeps the chance of one false
verdict among all at LEVEL. A setting whose runs failed keeps its place in the table, with the
reason.
"""

import re
from typing import NamedTuple

import numpy as np
from scipy import stats

from ablations.statistics import LEVEL, Interval, differences, interval


class Row(NamedTuple):
    """What a setting gave."""

    name: str
    values: tuple  # of its runs that ended, by seed
    difference: Interval | None  # from the baseline over shared seeds; None of the baseline itself
    p: float | None  # of the difference, not corrected; None where there is none to state
    corrected: float | None  # by Holm, among all that have one
    failed: tuple  # reasons of runs that did not end

    @property
    def mean(self):
        return float(np.mean(self.values)) if self.values else None

    @property
    def verdict(self):
        """higher, lower, not resolved, identical, not enough ..., failed; "" of the baseline."""
        if not self.values:
            return "failed"
        if self.difference is None:
            return ""
        return verdict(self.difference, self.corrected)

    @property
    def reason(self):
        """Why runs failed, each reason once, whatever step or steps it names; "" where none did."""
        kinds = {re.sub(r"s?[\d, ]+", " ", reason): reason for reason in reversed(self.failed)}
        return "; ".join(sorted(kinds.values()))

    def said(self, baseline):
        """The verdict, `baseline` of what is compared with, then how many runs failed and why."""
        if not self.values:
            return f"failed: {self.reason}"
        failed = f"; {len(self.failed)} failed: {self.reason}" if self.failed else ""
        return (self.verdict or baseline) + failed

    def text(self, width=28):
        """A line of a table; `width`: of the names."""
        mean = f"{100 * self.mean:6.2f} %" if self.values else " failed "
        said = self.difference.text() if self.difference and self.values else ""
        return f"{self.name:{width}} {mean}  {said}  {self.verdict}  {self.reason}".rstrip()


def holm(ps):
    """p values corrected for their number, in the order given.

    Args:
      ps: sequence of p values in 0..1.
    Returns:
      [len(ps)], each the smallest level at which Holm's step-down test rejects it, at most 1.
    """
    ps = np.asarray(ps, float)
    order = np.argsort(ps, kind="stable")
    factors = len(ps) - np.arange(len(ps))
    out = np.empty(len(ps))
    out[order] = np.minimum(1, np.maximum.accumulate(factors * ps[order]))
    return out


def verdict(difference, corrected):
    """Of an Interval and its corrected p, which says where there is one."""
    if corrected is None:
        return difference.verdict
    if corrected >= LEVEL:
        return "not resolved"
    return "higher" if difference.mean > 0 else "lower"


def compared(samples):
    """{name: (Interval, p, p corrected by Holm among all)}; None for a p that does not exist.

    Args:
      samples: {name: differences, a number a seed}.
    """
    found = {name: interval(values) for name, values in samples.items()}
    ps = {
        name: float(stats.ttest_1samp(samples[name], 0.0).pvalue)
        for name, difference in found.items()
        if difference.low is not None
    }
    corrected = dict(zip(ps, map(float, holm(list(ps.values()))), strict=True))
    return {name: (found[name], ps.get(name), corrected.get(name)) for name in samples}


def rank(records, baseline, key="accuracy"):
    """Rows of every setting of a series, best mean first, failed ones last.

    Args:
      records: of `runs.series`, each with name, seed and either `key` or `failed`.
      baseline: name of the setting that all others are compared with.
      key: a number of a record.
    Raises:
      ValueError: no record of the baseline.
    """
    by_name = {}
    for record in records:
        by_name.setdefault(record["name"], {})[record["seed"]] = record
    if baseline not in by_name:
        raise ValueError(f"no run of the baseline {baseline!r}; there are: {', '.join(by_name)}")
    all_ended = [record for record in records if "failed" not in record]
    against = compared({
        name: differences(all_ended, name, baseline, key) for name in by_name if name != baseline
    })  # fmt: skip
    rows = []
    for name, runs in by_name.items():
        ended = {seed: runs[seed][key] for seed in sorted(runs) if "failed" not in runs[seed]}
        failed = tuple(runs[seed]["failed"] for seed in sorted(runs) if "failed" in runs[seed])
        difference, p, corrected = against.get(name, (None, None, None))
        rows.append(Row(name, tuple(ended.values()), difference, p, corrected, failed))
    return sorted(rows, key=lambda row: (not row.values, -(row.mean or 0.0), row.name))


def draw(rows, path):
    """Settings as dots below each other, best first; bars: the interval of the difference, dotted:
    what they are compared with."""
    from dalif_jax.analysis.figures import BLUE, GREY, panels

    figure, (axis,) = panels(1, width=6.0, height=1.0 + 0.32 * len(rows))
    for place, row in enumerate(reversed(rows)):
        if not row.values:
            written(axis, place, "every run failed")
            continue
        found, mean = row.difference, 100 * row.mean
        half = 100 * found.half if found else 0
        axis.plot([100 * value for value in row.values], [place] * len(row.values), ".",
                  color=GREY, ms=5)  # fmt: skip
        axis.errorbar(
            mean, place, xerr=half, fmt="o" if found else "D", color=BLUE, ms=6, capsize=2
        )
        if not found:
            axis.axvline(mean, color="0.6", lw=0.8, ls=":")
    axis.set_yticks(range(len(rows)), [row.name for row in reversed(rows)])
    axis.set(xlabel="test accuracy, last epoch (%)")
    figure.savefig(path)


def written(axis, place, text):
    """Words in a setting's line, for what has no point there."""
    axis.text(0.02, place, text, fontsize=8, va="center", transform=axis.get_yaxis_transform(),
              bbox={"facecolor": "white", "edgecolor": "none"})  # fmt: skip

"""How sure a difference between settings is, from runs that share their seeds.

Where the runs are too few or too much alike to say anything, the verdict begins with "not enough".
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.05
NOT_ENOUGH = "not enough"


class Interval(NamedTuple):
    """A mean and its 95 % interval; `low` and `high` are None where there is none to state."""

    mean: float | None
    low: float | None
    high: float | None
    seeds: int  # how many values it is of

    @property
    def verdict(self):
        """higher, lower, not resolved: whether the interval keeps clear of 0; identical: all 0.

        not enough seeds: fewer than two values. not enough spread: several, all alike but not 0:
        seeds that change nothing are one run, and say nothing of what another seed would give.
        """
        if self.seeds < 2:
            return f"{NOT_ENOUGH} seeds"
        if self.low is None:
            return "identical" if self.mean == 0 else f"{NOT_ENOUGH} spread"
        return "higher" if self.low > 0 else "lower" if self.high < 0 else "not resolved"

    @property
    def half(self):
        """Half of the interval's length, 0 where there is none to state."""
        return 0.0 if self.low is None else (self.high - self.low) / 2

    def text(self, factor=100, unit=" points", bounds=(-np.inf, np.inf)):
        """Mean, and interval where there is one, as printed; `factor` makes the unit."""
        if self.mean is None:
            return "no runs to compare"
        text = f"{factor * self.mean:+z.2f}{unit}"
        if self.low is not None:
            low, high = np.clip((factor * self.low, factor * self.high), *bounds)
            text += f", 95 % interval {low:+z.2f} to {high:+z.2f}"
        return text


def interval(values, step=0.0):
    """Student's 95 % interval of the mean of `values`; of one or of equal ones there is none.

    Args:
      values: a number a seed; what is not finite counts as a run that is missing.
      step: values lie on steps of this size; their spread is taken as no smaller than rounding to
        them gives (Sheppard), so that equal values have an interval too.
    """
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if not len(values):
        return Interval(None, None, None, 0)
    mean = float(values.mean())
    # Differences of like numbers differ in their last bits.
    alike = np.ptp(values) <= 1e-12 * max(1.0, np.abs(values).max())
    if len(values) < 2 or (alike and not step):
        return Interval(float(values[0]) if alike else mean, None, None, len(values))
    spread = max(values.std(ddof=1), step / 12**0.5) / len(values) ** 0.5
    half = float(stats.t.ppf(1 - LEVEL / 2, len(values) - 1) * spread)
    return Interval(mean, mean - half, mean + half, len(values))


def differences(records, one, other, key="accuracy"):
    """One setting's `key` minus the other's, a number for each seed that both have."""
    by_seed = [{r["seed"]: r[key] for r in records if r["name"] == name} for name in (one, other)]
    seeds = sorted(set(by_seed[0]) & set(by_seed[1]))
    return [by_seed[0][seed] - by_seed[1][seed] for seed in seeds]


def paired(records, one, other, key="accuracy"):
    """Interval of one setting's `key` minus the other's, over the seeds both have."""
    return interval(differences(records, one, other, key))


class Test(NamedTuple):
    """A test's p, None where it says nothing, and its verdict."""

    p: float | None
    verdict: str  # differ, not resolved, identical, or not enough ...


def friedman(rows):
    """Friedman's test that treatments do not differ, each block ranked within itself.

    Args:
      rows: [treatments, blocks]. Blocks that are equal throughout count once: runs that a setting
        cannot tell apart are one run. Blocks with a value that is not finite are left out.
    Returns:
      Test; "not enough" where not even the clearest order could be resolved.
    """
    rows = np.asarray(rows, float)
    blocks = np.unique(rows[:, np.isfinite(rows).all(0)].T, axis=0)
    count, treatments = len(blocks), len(rows)
    if treatments < 3:
        return Test(None, f"{NOT_ENOUGH} to compare: the test needs three")
    if count and not np.ptp(blocks, axis=1).any():
        return Test(None, "identical")
    # The largest statistic: every block in the same order.
    if stats.chi2.sf(count * (treatments - 1), treatments - 1) >= LEVEL:
        return Test(None, f"{NOT_ENOUGH} different runs")
    p = float(stats.friedmanchisquare(*blocks.T).pvalue)
    return Test(p, "differ" if p < LEVEL else "not resolved")


def rank_step(count):
    """The step between neighbouring values of Spearman's correlation of `count` ranks."""
    return 12 / (count * (count**2 - 1))


def rank_correlation(values):
    """Spearman's correlation of `values` with their place; 0 where all are alike."""
    if np.ptp(values) == 0:
        return 0.0
    return float(stats.spearmanr(np.arange(len(values)), values).statistic)

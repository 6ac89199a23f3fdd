"""How sure a difference between settings is, from runs that share their seeds."""

from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self):
        """higher, lower, not resolved: whether the interval keeps clear of 0; identical: all 0."""
        if self.low == self.high == 0:
            return "identical"
        return "higher" if self.low > 0 else "lower" if self.high < 0 else "not resolved"


def interval(values):
    """Student's 95 % interval of the mean of `values`; of one value it is unbounded."""
    values = np.asarray(values, float)
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, -np.inf, np.inf)
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return Interval(mean, mean - float(half), mean + float(half))


def paired(records, one, other, key="accuracy"):
    """Interval of one setting's `key` minus the other's, seed by seed.

    Raises:
      ValueError: the two have no seed in common.
    """
    by_seed = [{r["seed"]: r[key] for r in records if r["name"] == name} for name in (one, other)]
    seeds = sorted(set(by_seed[0]) & set(by_seed[1]))
    if not seeds:
        raise ValueError(f"{one} and {other} share no seed")
    return interval([by_seed[0][seed] - by_seed[1][seed] for seed in seeds])


def rank_correlation(values):
    """Spearman's correlation of `values` with their place; 0 where all are alike."""
    if np.ptp(values) == 0:
        return 0.0
    return float(stats.spearmanr(np.arange(len(values)), values).statistic)

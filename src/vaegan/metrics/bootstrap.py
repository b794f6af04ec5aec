"""How sure a number is: percentile bootstrap within one run, t interval over seeds.

The bootstrap (Efron 1979) asks how the number would differ on other images of the same kind; only
several seeds say how it would differ had the model been trained again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vaegan.errors import DataError

__all__ = [
    "Interval",
    "mean_interval",
    "normal_interval",
    "ratio_interval",
    "resampled",
    "seed_interval",
]

RESAMPLES = 1000
BLOCK = 4_000_000  # drawn rows held at once


@dataclass(frozen=True)
class Interval:
    """A value and the interval that holds it at `level`; NaN ends where it cannot be known.

    count: the images, groups or seeds that it rests on.
    """

    value: float
    low: float
    high: float
    level: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def mean_interval(
    values: np.ndarray,
    groups: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of the mean of values (N,); NaN values are left out.

    groups (N,): whole groups are drawn, where values hang together (one source transferred to ten
    labels is one group of ten). Raises DataError if no value is left.
    """
    values = np.asarray(values, dtype=float)
    usable = np.isfinite(values)
    if groups is None:
        sums, counts = values[usable], np.ones(usable.sum())
    else:
        _, index = np.unique(np.asarray(groups)[usable], return_inverse=True)
        sums, counts = np.bincount(index, values[usable]), np.bincount(index).astype(float)
    return ratio_interval(sums, counts, paired=True, level=level, resamples=resamples, seed=seed)


def ratio_interval(
    numerators: np.ndarray,
    denominators: np.ndarray,
    paired: bool = False,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of mean(numerators) / mean(denominators).

    paired: the two belong together row by row and are drawn together; otherwise they are two
    independent sets, such as generated and real images, and may differ in number.
    """
    numerators = np.asarray(numerators, dtype=float)
    denominators = np.asarray(denominators, dtype=float)
    if not len(numerators) or not len(denominators):
        raise DataError("no value to average: give at least one finite value")
    random = np.random.default_rng(seed)
    n, m = len(numerators), len(denominators)
    drawn = []
    for size in _blocks(resamples, max(n, m)):
        rows = random.integers(n, size=(size, n))
        other = rows if paired else random.integers(m, size=(size, m))
        drawn.append(numerators[rows].mean(axis=1) / denominators[other].mean(axis=1))
    value = float(numerators.mean() / denominators.mean())
    return _percentile(value, np.concatenate(drawn), level, n)


def resampled(count: int, resamples: int = 200, seed: int = 0) -> np.ndarray:
    """How often each of `count` rows is drawn in each bootstrap sample, float64 (resamples, count).

    For statistics that take weights. Not for distances between sets (Frechet, kernel,
    neighbourhoods): a row drawn twice is a neighbour at distance 0, which shifts them all.
    """
    rows = np.random.default_rng(seed).integers(count, size=(resamples, count))
    rows += count * np.arange(resamples)[:, None]
    counts = np.bincount(rows.ravel(), minlength=resamples * count)
    return counts.reshape(resamples, count).astype(float)


def normal_interval(value: float, deviation: float, count: int, level: float = 0.95) -> Interval:
    """The interval of a value of which the standard error is known: value +- 1.96 deviation."""
    from scipy import stats

    reach = float(stats.norm.ppf(0.5 + level / 2)) * deviation
    return Interval(value, value - reach, value + reach, level, count)


def seed_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean over seeds and its Student t interval; the ends are NaN for a single seed."""
    from scipy import stats

    if not len(values):
        raise DataError("no seed to average over: give at least one value")
    array, n = np.asarray(values, dtype=float), len(values)
    mean = float(array.mean())
    if n == 1:
        return Interval(mean, float("nan"), float("nan"), level, 1)
    reach = float(stats.t.ppf(0.5 + level / 2, n - 1) * array.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - reach, mean + reach, level, n)


def _percentile(value: float, drawn: np.ndarray, level: float, count: int) -> Interval:
    """The interval that leaves out as much on either side; NaN draws are left out."""
    drawn = drawn[np.isfinite(drawn)]
    if count < 2 or not len(drawn):
        return Interval(value, float("nan"), float("nan"), level, count)
    low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(value, float(low), float(high), level, count)


def _blocks(resamples: int, size: int) -> list[int]:
    """How many resamples to draw at once, so that memory stays bounded."""
    step = max(1, BLOCK // size)
    return [min(step, resamples - i) for i in range(0, resamples, step)]

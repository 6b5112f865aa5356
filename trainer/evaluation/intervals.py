"""How sure a mean over so few rows is: 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

RESAMPLES, SEED = 2000, 0
NORMAL = 1.959964  # of the normal distribution, 95 % lies within so many standard deviations


@dataclass(frozen=True)
class Interval:
    """A value and the range in which it would lie for 95 of 100 such sets of rows; None where it is no number."""

    value: float | None
    low: float | None
    high: float | None


def weighted_means(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of `values` [measures, rows] by the sum of `weights` [rows]: of all rows, and of each resample.

    Rows are drawn with replacement, the same ones for every measure, so that differences are paired (Efron 1979).
    Returns [measures] and [measures, RESAMPLES].
    """
    table = np.vstack([values, weights])
    sums = np.empty((len(table), RESAMPLES))
    for index, rows in enumerate(resampled_rows(len(weights))):
        sums[:, index] = table[:, rows].sum(axis=1)
    sums = sums[:, sums[-1] > 0]  # a resample may hold no row that weighs anything
    return values.sum(axis=1) / weights.sum(), sums[:-1] / sums[-1]


def resampled_rows(rows: int) -> Iterator[np.ndarray]:
    """So many of the rows, drawn with replacement; the same draws each time."""
    generator = np.random.default_rng(SEED)
    for _ in range(RESAMPLES):
        yield generator.integers(rows, size=rows)


def percentiles(value: float, resampled: np.ndarray) -> Interval:
    """The middle 95 % of what the resamples gave."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(*(float(each) if math.isfinite(each) else None for each in (value, low, high)))


def wilson(share: float, rows: int) -> Interval:
    """Of a share of rows (Wilson 1927): resampling rows that are all right would claim to be certain."""
    square = NORMAL**2
    middle = (share + square / (2 * rows)) / (1 + square / rows)
    half = NORMAL / (1 + square / rows) * math.sqrt(share * (1 - share) / rows + square / (4 * rows**2))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))

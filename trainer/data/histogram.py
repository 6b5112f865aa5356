"""How long rows are: counts in bins that a person can read off. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MOST_BINS = 24
SKEWED = 20  # times the median: from here on equal bins would show one column and a desert


@dataclass(frozen=True)
class Histogram:
    """`counts[n]` lengths lie in `edges[n] <= length < edges[n + 1]`; on a log scale edges double."""

    scale: Literal["linear", "log"]
    edges: list[int]
    counts: list[int]


def histogram(lengths: Sequence[int]) -> Histogram:
    """The lengths in at most `MOST_BINS` bins up to the longest; no bins where there are no lengths."""
    if not lengths:
        return Histogram("linear", [0], [])
    longest, median = max(lengths), sorted(lengths)[len(lengths) // 2]
    if longest > SKEWED * max(1, median):
        doublings = longest.bit_length()
        edges = [2**power for power in range(max(0, doublings - MOST_BINS), doublings + 1)]
        edges[0] = 0
        counts = [0] * (len(edges) - 1)
        for length in lengths:
            counts[max(0, length.bit_length() - 1 - (doublings - len(counts)))] += 1
        return Histogram("log", edges, counts)
    width = round_width((longest + 1) / MOST_BINS)
    counts = [0] * (longest // width + 1)
    for length in lengths:
        counts[length // width] += 1
    return Histogram("linear", [width * n for n in range(len(counts) + 1)], counts)


def round_width(least: float) -> int:
    """The first of 1, 2, 5, 10, 20, 50, … that is not below `least`."""
    power = 10 ** max(0, math.floor(math.log10(max(1.0, least))))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least)

"""Ratios of paired runs, their interval, and whether a bound was held."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence


def geometric(ratios: Sequence[float]) -> float:
    """The geometric mean."""
    return math.exp(statistics.fmean(map(math.log, ratios)))


def interval(ratios: Sequence[float], draws: int = 2000) -> tuple[float, float]:
    """95 % of the geometric means of as many ratios, drawn with replacement."""
    chance = random.Random(0)
    means = sorted(geometric(chance.choices(ratios, k=len(ratios))) for _ in range(draws))
    return means[draws // 40], means[-draws // 40 - 1]


def report(what: str, ratios: Sequence[float]) -> None:
    """The mean and the interval."""
    low, high = interval(ratios)
    print(f"{what}: {geometric(ratios):.2f} times ({low:.2f} to {high:.2f})", flush=True)


def at_least(what: str, ratios: Sequence[float], bound: float, *, equal: bool = True) -> bool:
    """Whether the lower end of the interval reaches the bound, at equal quality; prints it."""
    low = interval(ratios)[0]
    return _verdict(equal and low >= bound, f"{what}: at least {low:.2f}, of {bound:g} or more")


def at_most(what: str, ratios: Sequence[float], bound: float, digits: int = 2) -> bool:
    """Whether the upper end of the interval stays within the bound; prints it."""
    high = interval(ratios)[1]
    return _verdict(high <= bound, f"{what}: at most {high:.{digits}g}, of {bound:g} or less")


def _verdict(held: bool, text: str) -> bool:
    print(f"{'held  ' if held else 'MISSED'}  {text}", flush=True)
    return held

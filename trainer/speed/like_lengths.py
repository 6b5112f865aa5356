"""Which rows are worth padding to one length. Torch-free, because a prediction of memory asks it too."""

from __future__ import annotations

from collections.abc import Sequence

# What a group of rows costs before its first product, in places of a head's table of scores.
GROUP = 2 * 128**2


def cuts(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Where groups of rows begin and end, for rows from short to long: the partition that costs least.

    A group costs as its table of scores, rows * longest², and `GROUP`; each best partition is made of that of fewer rows.
    """
    best: list[tuple[int, int]] = [(0, 0)]  # of the first so many rows: the least cost, and where the last group begins
    for after in range(1, len(lengths) + 1):
        tried = ((best[first][0] + GROUP + (after - first) * lengths[after - 1] ** 2, first) for first in range(after))
        best.append(min(tried))
    found, after = [], len(lengths)
    while after:
        found.append((best[after][1], after))
        after = best[after][1]
    return found[::-1]

"""Rows that are almost the same: found by their smallest word triples, compared by how many of those they share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from heapq import nsmallest

ENOUGH = 0.8  # of the triples of two rows in common
KEPT = 24  # smallest hashes of a row; equal shares of them estimate equal shares of all (bottom-k sketch of MinHash)
KEYS = 6  # of those by which a row is found: two rows with 0.8 in common miss each other once in ten thousand
CROWD = 8  # rows remembered for one key; what hundreds of rows begin with tells nothing
SHORTEST = 8  # words
MOST_ROWS = 200_000
_WORD = re.compile(r"\w+")

Sketch = tuple[int, ...]


def sketch(text: str) -> Sketch:
    """The smallest hashes of the text's word triples; empty for a text too short to be alike by accident."""
    words = _WORD.findall(text.lower())
    if len(words) < SHORTEST:
        return ()
    return tuple(nsmallest(KEPT, set(map(hash, zip(words, words[1:], words[2:], strict=False)))))


def alike(one: Sketch, other: Sketch) -> float:
    """The estimated share of triples that two texts have in common."""
    together = nsmallest(KEPT, set(one) | set(other))
    both = set(one) & set(other)
    return sum(each in both for each in together) / len(together)


class Likeness:
    """Remembers rows by their sketches and finds the one that a new row is almost the same as."""

    def __init__(self) -> None:
        self._rows: list[tuple[Sketch, int]] = []
        self._by_key: dict[int, list[int]] = {}

    @property
    def full(self) -> bool:
        """Whether no more rows are remembered."""
        return len(self._rows) >= MOST_ROWS

    def find(self, of: Sketch) -> int | None:
        """The number under which a row much like this one was remembered."""
        for index in self._near(of):
            known, number = self._rows[index]
            if alike(known, of) >= ENOUGH:
                return number
        return None

    def remember(self, of: Sketch, number: int) -> None:
        """Remember a row by a number of the caller's."""
        if not of or self.full:
            return
        self._rows.append((of, number))
        for key in of[:KEYS]:
            rows = self._by_key.setdefault(key, [])
            if len(rows) < CROWD:
                rows.append(len(self._rows) - 1)

    def _near(self, of: Sketch) -> Iterator[int]:
        seen: set[int] = set()
        for key in of[:KEYS]:
            for index in self._by_key.get(key, ()):
                if index not in seen:
                    seen.add(index)
                    yield index

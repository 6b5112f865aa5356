"""Rows that are almost the same: found by their smallest word triples, compared by how many of those they share."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence

ENOUGH = 0.8  # of the triples of two rows in common
KEPT = 24  # smallest hashes of a row; equal shares of them estimate equal shares of all (bottom-k sketch of MinHash)
KEYS = 5  # of those by which a row is found; two rows with 0.8 in common hardly ever differ in all of them
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
    return tuple(sorted(set(map(hash, zip(words, words[1:], words[2:], strict=False))))[:KEPT])


def alike(one: Sequence[int], other: Sequence[int]) -> float:
    """The estimated share of triples that two texts have in common."""
    first, second = set(one), set(other)
    together = sorted(first | second)[:KEPT]
    return len((first & second).intersection(together)) / len(together)


class Likeness:
    """Remembers rows by their sketches and finds the one that a new row is almost the same as."""

    def __init__(self) -> None:
        self._sketches: list[array[int]] = []  # arrays take a fifth of the memory of tuples
        self._numbers = array("q")
        self._first: dict[int, int] = {}  # the first row of a key, which for most keys is the only one
        self._more: dict[int, list[int]] = {}

    @property
    def full(self) -> bool:
        """Whether no more rows are remembered."""
        return len(self._sketches) >= MOST_ROWS

    def find(self, of: Sketch) -> int | None:
        """The number under which a row much like this one was remembered."""
        for index in self._near(of):
            if alike(self._sketches[index], of) >= ENOUGH:
                return self._numbers[index]
        return None

    def remember(self, of: Sketch, number: int) -> None:
        """Remember a row by a number of the caller's."""
        if not of or self.full:
            return
        index = len(self._sketches)
        self._sketches.append(array("q", of))
        self._numbers.append(number)
        for key in of[:KEYS]:
            if self._first.setdefault(key, index) == index:
                continue
            rows = self._more.setdefault(key, [])
            if len(rows) < CROWD:
                rows.append(index)

    def _near(self, of: Sketch) -> Iterator[int]:
        seen: set[int] = set()
        for key in of[:KEYS]:
            for index in (self._first.get(key), *self._more.get(key, ())):
                if index is not None and index not in seen:
                    seen.add(index)
                    yield index

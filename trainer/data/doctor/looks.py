"""Pictures that look the same: found by a few bits of how each looks, in groups."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

MOST_BITS = 10  # of 128; of 600 copies in other formats and sizes none differed in more, other pictures in 27 and more
BANDS = 8  # of sixteen bits each; pictures that differ in fewer bits than there are bands have at least one in common
MOST_SHADES = 12  # of 255, in which mean colours may differ; those of copies did in 3
CROWD = 16  # pictures remembered for one band; a blank margin is shared by too many to tell anything
COLOUR = 6  # hexadecimal digits that tell the mean colour, before those of the bits


class Looks:
    """Remembers pictures by how they look, and finds the one that a new picture looks the same as."""

    def __init__(self) -> None:
        self._looks: list[bytes] = []
        self._numbers = array("q")
        self._near: dict[tuple[int, int], list[int]] = {}

    def find(self, looks: str) -> int | None:
        """The number under which a picture that looks like this one was remembered."""
        if not looks:
            return None
        of = bytes.fromhex(looks)
        for index in dict.fromkeys(index for band in _bands(of) for index in self._near.get(band, ())):
            if _same(self._looks[index], of):
                return self._numbers[index]
        return None

    def remember(self, looks: str, number: int) -> None:
        """Remember a picture by a number of the caller's."""
        if not looks:
            return
        of = bytes.fromhex(looks)
        for band in _bands(of):
            there = self._near.setdefault(band, [])
            if len(there) < CROWD:
                there.append(len(self._looks))
        self._looks.append(of)
        self._numbers.append(number)


def _bands(looks: bytes) -> Iterator[tuple[int, int]]:
    bits = looks[COLOUR // 2 :]
    for band in range(BANDS):
        yield band, int.from_bytes(bits[2 * band : 2 * band + 2], "big")


def _same(one: bytes, other: bytes) -> bool:
    colours = zip(one[: COLOUR // 2], other[: COLOUR // 2], strict=True)
    if any(abs(a - b) > MOST_SHADES for a, b in colours):
        return False
    return (
        int.from_bytes(one[COLOUR // 2 :], "big") ^ int.from_bytes(other[COLOUR // 2 :], "big")
    ).bit_count() <= MOST_BITS

"""Lines of blocks of bytes, with a limit on how long one may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

LONGEST = 16 << 20  # bytes; beyond it a line is not kept
LONG = 1_000_000  # bytes that are worth a word
_SHOWN = 200


class TooLong:
    """Stands in for a line that was not kept."""

    def __init__(self, size: int, start: bytes) -> None:
        self.size, self.start = size, start[:_SHOWN]


Line = bytes | TooLong


def in_lists(blocks: Iterable[bytes]) -> Iterator[list[Line]]:
    """The lines without their ends, as many at once as a block holds; the last line may lack an end."""
    rest, gone = b"", 0  # the beginning of the current line, and how many bytes of it were not kept
    for block in blocks:
        lines: list[Line] = []
        lines += (rest + block).split(b"\n")
        last = lines.pop()
        assert isinstance(last, bytes)
        if gone and lines:
            first = lines[0]
            assert isinstance(first, bytes)
            lines[0] = TooLong(gone + len(first), first)
            gone = 0
        rest = last
        if len(rest) > LONGEST:
            gone += len(rest) - _SHOWN
            rest = rest[:_SHOWN]
        if lines:
            yield lines
    if rest or gone:
        yield [TooLong(gone + len(rest), rest) if gone else rest]


def numbered(blocks: Iterable[bytes]) -> Iterator[tuple[int, Line]]:
    """(number from 1, line) of every line."""
    number = 0
    for lines in in_lists(blocks):
        for line in lines:
            number += 1
            yield number, line

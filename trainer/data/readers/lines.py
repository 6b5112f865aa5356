"""Lines of blocks of bytes, numbered, with a limit on how long one may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

LONGEST = 16 << 20  # bytes; beyond it a line is not kept
LONG = 1_000_000  # bytes that are worth a word


class TooLong:
    """Stands in for a line that was not kept."""

    def __init__(self, size: int, start: bytes) -> None:
        self.size, self.start = size, start


def numbered(blocks: Iterable[bytes]) -> Iterator[tuple[int, bytes | TooLong]]:
    """(number from 1, line without its end) of every line; the last may lack an end."""
    number, rest = 0, bytearray()
    dropped = 0  # bytes of the current line that were not kept
    for block in blocks:
        first, *more = block.split(b"\n")
        rest += first
        if dropped or len(rest) > LONGEST:
            dropped += len(rest) if not dropped else len(first)
            rest = rest[:200]
        if not more:
            continue
        number += 1
        yield number, TooLong(dropped, bytes(rest)) if dropped else bytes(rest)
        dropped = 0
        for line in more[:-1]:
            number += 1
            yield number, line
        rest = bytearray(more[-1])
    if rest or dropped:
        yield number + 1, TooLong(dropped, bytes(rest)) if dropped else bytes(rest)

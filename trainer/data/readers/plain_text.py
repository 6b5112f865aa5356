"""Plain text and Markdown: cut at headings and paragraphs into pieces of about the same length."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.data.problems import Read, nothing
from trainer.data.readers.lines import TooLong, numbered
from trainer.data.readers.opening import Opened, blocks
from trainer.data.samples import Place


def text_rows(opened: Opened, file: str, characters: int) -> Iterator[Read]:
    """Pieces of at most so many characters; a paragraph is parted only where it is longer than that alone."""
    number, start, piece, size = 0, 1, list[str](), 0
    for line, raw in numbered(blocks(opened)):
        if isinstance(raw, TooLong):
            yield nothing("line-enormous", Place(file, number + 1, line), f"the line is {raw.size / 1e6:,.0f} MB long.")
            continue
        try:
            text = raw.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError as error:
            detail = f"the byte 0x{raw[error.start]:02x} is not UTF-8."
            yield nothing("encoding-broken", Place(file, number + 1, line), detail)
            continue
        for part in _parts(text, characters):
            begins = text.startswith("#") or not text.strip()
            if piece and (size + len(part) > characters or (begins and size > characters * 0.75)):
                number += 1
                yield _row(file, number, start, piece)
                piece, size = [], 0
            if part.strip() or piece:
                start = start if piece else line
                piece.append(part)
                size += len(part) + 1
    if "".join(piece).strip():
        yield _row(file, number + 1, start, piece)


def _parts(text: str, characters: int) -> Iterator[str]:
    """A line that is too long by itself, parted at spaces."""
    while len(text) > characters:
        cut = text.rfind(" ", characters // 2, characters)
        cut = characters if cut < 0 else cut
        yield text[:cut]
        text = text[cut:].lstrip(" ")
    yield text


def _row(file: str, number: int, line: int, piece: list[str]) -> Read:
    return Place(file, number, line), {"text": "\n".join(piece).strip("\n")}, []

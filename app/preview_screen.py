"""Rows in a terminal with what is learned of them: in colour, or in brackets where there is none."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby

from app.api.schema_data import PreviewPicture, PreviewRow, PreviewStatistics, PreviewText, PreviewToken

RESET = "\x1b[0m"
COLOURS = {"trained": "\x1b[1;32m", "context": "", "cut": "\x1b[9;31m"}
BRACKETS = {"trained": ("[[", "]]"), "context": ("", ""), "cut": ("~~", "~~")}
WORDS = {"trained": "learned", "context": "read", "cut": "cut off"}
BAR = 40  # characters of the longest one


def in_colour() -> bool:
    """Whether standard output shows colours and its owner wants them."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Painter:
    """Text for one terminal."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def legend(self) -> str:
        """What the marks mean."""
        marked = [self._marked(state, f"{WORDS[state]}") for state in ("trained", "context", "cut")]
        return f"{marked[0]}: the model learns to write this   {marked[1]}: it only reads this   {marked[2]}: it never sees this"

    def row(self, row: PreviewRow, *, ids: bool = False) -> Iterator[str]:
        """One row: how much of it is learned, its text or its tokens one a line, and what is to be said of it."""
        read = row.trained + row.context
        share = f" ({row.trained / read:.0%})" if read else ""
        cut = f", {row.cut:,} cut off" if row.cut else ""
        yield f"Row {row.number:,}, {row.place}: {row.trained:,} of {read:,} tokens are learned{share}{cut}"
        for number, picture in enumerate(row.pictures, 1):
            yield f"  Picture {number}: {_sides(picture.size)}, taken as {_as_taken(picture)}"
        for text in row.texts:
            yield ""
            yield from self._tokens(text) if ids else textwrap.indent(self._text(text), "    ").split("\n")
            if text.hidden:
                yield f"    … {text.hidden:,} tokens of it are not shown"
        for finding in row.findings:
            yield f"  ! {finding.sentence}"

    def _text(self, text: PreviewText) -> str:
        return "".join(
            self._marked(state, "".join(readable(_repeated(token)) for token in tokens))
            for state, tokens in groupby(text.tokens, lambda token: token.state)
        )

    def _tokens(self, text: PreviewText) -> Iterator[str]:
        for token in text.tokens:
            yield f"  {token.id:>8}  {WORDS[token.state]:<8} {self._marked(token.state, _shown(token))}"

    def _marked(self, state: str, text: str) -> str:
        before, after = (COLOURS[state], RESET if COLOURS[state] else "") if self._colour else BRACKETS[state]
        # Each line by itself: a colour that goes over the end of a line also paints the margin.
        return "\n".join(f"{before}{line}{after}" if line else "" for line in text.split("\n"))


def readable(text: str) -> str:
    """The text with its line breaks marked, and nothing in it that a terminal would obey."""
    marked = text.replace("\n", "↵\n")
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in marked)


def _shown(token: PreviewToken) -> str:
    return repr(_repeated(token)) if token.text else "(a further part of the character above)"


def _repeated(token: PreviewToken) -> str:
    return f"{token.text} x {token.times:,} " if token.times > 1 else token.text


def _as_taken(picture: PreviewPicture) -> str:
    tiles = f"{len(picture.tiles)} tiles of " if len(picture.tiles) > 1 else ""
    return f"{tiles}{_sides(picture.tile)} and {picture.tokens:,} tokens"


def _sides(size: tuple[int, int]) -> str:
    return f"{size[0]:,} x {size[1]:,} pixels"


def summary(found: PreviewStatistics) -> Iterator[str]:
    """What all rows come to: how much is learned, how long they are, and what is to be said of them."""
    share = found.trained / found.tokens if found.tokens else 0
    rows = "The only row" if found.rows == 1 else f"All {found.rows:,} rows"
    yield f"{rows}: {found.trained:,} of {found.tokens:,} tokens are learned ({share:.0%})"
    if found.held_out_rows:
        yield f"{found.held_out_rows:,} rows are held out."
    yield from found.left_out
    yield ""
    cut = f"; {found.longer:,} are longer than data.max_length" if found.longer else ", all within data.max_length"
    yield f"Tokens a row: at most {found.longest:,}{cut} ({found.max_length:,})"
    yield from bars(found.lengths.edges, found.lengths.counts, found.max_length)
    for finding in found.findings:
        yield f"  ! {finding.sentence}"


def bars(edges: Sequence[int], counts: Sequence[int], cut: int) -> Iterator[str]:
    """A histogram on its side; the bin in which the cut lies is marked."""
    most = max(counts, default=0)
    begun = False
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        begun = begun or count > 0
        if begun:
            bar = "█" * (max(1, round(BAR * count / most)) if count else 0)
            mark = f"  <- rows are cut at {cut:,}" if low <= cut < high else ""
            lengths = f"{low:,}" if high - low == 1 else f"{low:,} to {high - 1:,}"
            yield f"  {lengths:>19} |{bar} {count:,}{mark}"

"""One JSON list, row by row: no more than one row is held."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator

from trainer.data.problems import Read, RowError, nothing
from trainer.data.readers.json_line import parse, why
from trainer.data.readers.lines import LONGEST
from trainer.data.readers.opening import Opened, blocks
from trainer.data.samples import Place

_SPACE = re.compile(r"[ \t\r\n]*")
_PIECE = 1 << 16


class _Text:
    """A window on the file's text that moves forward; `line` and `column` are where it begins."""

    def __init__(self, opened: Opened) -> None:
        self._blocks = blocks(opened)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="strict")
        self.text, self.at, self.line, self.line_start, self._counted = "", 0, 1, 0, 0
        self.ended = False

    def more(self) -> bool:
        """Read another block; False at the end of the file. Raises `UnicodeDecodeError`."""
        if self.ended:
            return False
        block = next(self._blocks, None)
        self.ended = block is None
        self.text += self._decoder.decode(block or b"", final=self.ended)
        return True

    def skip_space(self) -> str:
        """The next character that is not space, or nothing at the end."""
        while True:
            found = _SPACE.match(self.text, self.at)
            assert found
            self.at = found.end()
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]

    def pass_by(self) -> None:
        """Count the lines that were read, and forget their text once it is long: the rest is copied each time."""
        self.line, self.line_start = self._line_of(self.at)
        self._counted = self.at
        if self.at > _PIECE * 16:
            self.text, self.line_start = self.text[self.at :], self.line_start - self.at
            self.at = self._counted = 0

    def position(self, at: int) -> tuple[int, int]:
        """Line and column of an offset in the window, from 1."""
        line, start = self._line_of(at)
        return line, at - start + 1

    def _line_of(self, at: int) -> tuple[int, int]:
        """The line of an offset behind what was counted, and the offset where that line begins."""
        breaks = self.text.count("\n", self._counted, at)
        return (self.line + breaks, self.text.rfind("\n", 0, at) + 1) if breaks else (self.line, self.line_start)


def array_rows(opened: Opened, file: str) -> Iterator[Read]:
    """Every element of the list; the first place that is no JSON ends the reading."""
    text = _Text(opened)
    row = 0
    try:
        text.skip_space()
        text.at += 1  # the opening bracket, which is why the file was taken for a list
        while (character := text.skip_space()) != "]":
            if row and character != ",":
                yield _broken(text, file, row + 1, text.at, "a comma is missing between two rows." if character else "")
                return
            text.at += 1 if row else 0
            if text.skip_space() == "]":
                yield _broken(text, file, row + 1, text.at, "there is a comma before a closing bracket.")
                return
            text.pass_by()
            row += 1
            read = _element(text, file, row)
            yield read
            if read[2] and read[2][0].kind in ("json-array-broken", "json-truncated"):
                return
        text.at += 1
        if text.skip_space():
            yield _broken(text, file, row + 1, text.at, "something follows the list's closing bracket.")
    except UnicodeDecodeError as error:
        place = Place(file, row + 1, text.line + text.text.count("\n"))
        yield nothing("encoding-broken", place, f"a byte near here is not UTF-8 ({error.reason}).")


def _element(text: _Text, file: str, row: int) -> Read:
    """The element that begins here; reads on until it is whole, up to the longest row."""
    place = Place(file, row, text.position(text.at)[0])
    wanted = _PIECE
    while True:
        while len(text.text) - text.at < wanted and text.more():
            pass
        try:
            value, end = _decode(text)
        except json.JSONDecodeError as error:
            cut = error.pos >= len(text.text) - 20 or error.msg.startswith("Unterminated")
            if cut and not text.ended and wanted < LONGEST:
                wanted = (len(text.text) - text.at) * 2
                continue
            if cut and text.ended:
                return _broken(text, file, row, len(text.text.rstrip()) - 1, "")
            return _broken(text, file, row, error.pos, why(text.text[text.at :], error, text.at))
        except (ValueError, RecursionError) as error:
            what = (
                "brackets are nested thousands deep." if isinstance(error, RecursionError) else "a number is too long."
            )
            return _broken(text, file, row, text.at, what)
        if end < len(text.text) or not text.more():
            break  # a number at the end of the window could go on
    raw = text.text[text.at : end]
    text.at = end
    try:
        if "\\u" in raw or "NaN" in raw or "Infinity" in raw:  # what the first parser may have let pass
            parse(raw)
    except RowError as error:
        return place, None, [error.at(place)]
    return place, value, []


def _decode(text: _Text) -> tuple[object, int]:
    return _DECODER.raw_decode(text.text, text.at)


_DECODER = json.JSONDecoder()


def _broken(text: _Text, file: str, row: int, at: int, what: str) -> Read:
    at = max(0, at)
    line, column = text.position(at)
    place = Place(file, row, line)
    if not what:
        detail = "the list is not closed; the file ends in the middle."
        return nothing("json-truncated", place, detail, column=column, found=text.text[max(0, at - 40) : at + 1])
    return nothing("json-array-broken", place, what, column=column, found=text.text[max(0, at - 15) : at + 40])

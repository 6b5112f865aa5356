"""One line of JSON as a value, or as what is wrong with it, in the words of somebody who has seen it before."""

from __future__ import annotations

import json
import re
from typing import Any

from trainer.data.problems import Finding, Read, RowError, nothing, shorten
from trainer.data.readers.lines import LONG, TooLong
from trainer.data.samples import Place

# Half a character: an escape of the upper half without the lower one behind it, or the lower without the upper before.
_HALF = re.compile(
    r"(?i)(?<!\\)(?:\\\\)*(?:\\u(?P<upper>d[89ab][0-9a-f]{2})(?:\\u(?P<pair>d[c-f][0-9a-f]{2}))?|\\u(?P<lower>d[c-f][0-9a-f]{2}))"
)


def read_line(line: bytes | TooLong, place: Place, *, last: bool) -> Read:
    """One line; `last` tells that the file ends with it, where a copy may have been cut short."""
    if isinstance(line, TooLong):
        detail = f"the line is {line.size / 1e6:,.0f} MB long."
        return nothing("line-enormous", place, detail, found=line.start.decode("utf-8", "replace"))
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return _not_text(line, error, place)
    try:
        value = parse(text)
    except RowError as error:
        return place, None, [_at_column(error, text, place)]
    except json.JSONDecodeError as error:
        return _not_json(text, error, place, last)
    except ValueError:
        return nothing("json-broken", place, "a number has more digits than any reader takes.")
    except RecursionError:
        return nothing("json-depth", place, "brackets are nested thousands deep.", found=text[:200])
    if len(line) > LONG:
        return (
            place,
            value,
            [Finding("line-long", place, f"the row is {len(line):,} bytes long.", found=shorten(text[:200]))],
        )
    return place, value, []


def parse(text: str) -> Any:
    """The value; raises `RowError` for what Python's parser takes and JSON does not, `ValueError` for what is broken."""
    value = json.loads(text, parse_constant=_refuse)
    if "\\u" in text and (half := lone_surrogate(text)) is not None:
        raise RowError("surrogate", "a character is only half there.", found=text[half : half + 6])
    return value


def lone_surrogate(text: str) -> int | None:
    """Where the first escape of half a character is."""
    for found in _HALF.finditer(text):
        if found["lower"] or not found["pair"]:
            return found.start("lower" if found["lower"] else "upper") - 2
    return None


def _refuse(constant: str) -> Any:
    raise RowError("not-finite", f"`{constant}` is not JSON.", found=constant)


def _at_column(error: RowError, text: str, place: Place) -> Finding:
    column = lone_surrogate(text) if error.kind == "surrogate" else text.find(error.found)
    return Finding(error.kind, place, error.detail, column=None if column is None else column + 1, found=error.found)


def _not_text(line: bytes, error: UnicodeDecodeError, place: Place) -> Read:
    before = line[: error.start].decode("utf-8", "replace")
    shown = before[-20:] + line[error.start : error.start + 40].decode("latin-1")
    if line.count(0) or sum(byte < 9 for byte in line[:4096]) * 10 > len(line[:4096]):
        return nothing("binary", place, "this is not text.", column=len(before) + 1, found=shown)
    detail = f"the byte 0x{line[error.start]:02x} is not UTF-8."
    return nothing("encoding-broken", place, detail, column=len(before) + 1, found=shown)


def _not_json(text: str, error: json.JSONDecodeError, place: Place, last: bool) -> Read:
    if "\0" in text:
        return nothing("binary", place, "this is not text.", column=text.index("\0") + 1, found=text[:200])
    end = len(text.rstrip())
    if text.lstrip().startswith(("{", "[")) and (error.pos >= end or error.msg.startswith("Unterminated")):
        kind = "json-truncated" if last else "json-broken"
        detail = _PART if text.strip() in ("{", "[") else "the row ends in the middle."
        return nothing(kind, place, detail, column=end, found=text[max(0, end - 40) : end])
    around = text[max(0, error.pos - 15) : error.pos + 40]
    return nothing("json-broken", place, why(text, error), column=error.pos + 1, found=around)


def why(text: str, error: json.JSONDecodeError, start: int = 0) -> str:
    """The parser's complaint in words, with the mistake that people mostly make there; `text` begins at `start`."""
    rest, before = text[error.pos - start :], text[: error.pos - start].rstrip()
    if rest.startswith("'") or text.lstrip().startswith("{'"):
        return "JSON text stands in double quotes, not in single ones."
    if rest.startswith(("True", "False", "None")):
        return f"JSON writes {rest[: 5 if rest.startswith('False') else 4]} as {_JSON_NAMES[rest[0]]}."
    if rest.startswith(("“", "”", "„")):
        return "the quotes are typographic ones; JSON takes straight ones only."
    if error.msg == "Extra data" and rest.strip() == ",":
        return "a comma stands behind the row; in a file of JSON lines nothing does."
    if error.msg == "Extra data" and text[: error.pos - start].endswith("\r"):
        return "the rows are parted by carriage returns alone, as on old Macs; save the file with plain line breaks."
    if text.strip() in _ENDS or (rest.startswith(":") and not before.startswith(("{", "["))):
        return _PART
    if text.lstrip().startswith(("//", "#")):
        return "this is a comment, and JSON has none."
    if rest.startswith(("}", "]")) and before.endswith(","):
        return "there is a comma before a closing bracket."
    if not text.lstrip().startswith(("{", "[", '"')):
        return "this is plain text, not a row of JSON."
    return next((words for part, words in _WORDS.items() if error.msg.startswith(part)), "this is not valid JSON.")


_ENDS = ("}", "},", "]", "],")
_PART = "this is a part of a row; in a file of JSON lines each row stands whole on one line."
_JSON_NAMES = {"T": "true", "F": "false", "N": "null"}
_WORDS = {
    "Extra data": "a second value follows the first; each row stands on a line of its own.",
    "Invalid control character": "a tab or other control character stands inside quotes; JSON writes it as \\t.",
    "Invalid \\escape": "a backslash stands alone; JSON writes it as \\\\.",
    "Invalid \\u": "after \\u come four hexadecimal digits.",
    "Expecting ',' delimiter": 'a comma is missing here, or a quote inside the text is not written as \\".',
    "Expecting ':' delimiter": "a colon is missing here.",
    "Expecting property name": "a column's name in double quotes is missing here.",
    "Expecting value": "a value is missing here.",
}

"""Tables: the delimiter is found, not assumed; quoted line breaks belong to their field."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from trainer.data.problems import Read, nothing
from trainer.data.readers.lines import LONGEST, TooLong, numbered
from trainer.data.readers.opening import Opened, blocks
from trainer.data.samples import Place
from trainer.errors import TrainError

DELIMITERS = ",;\t|"
csv.field_size_limit(LONGEST)


class _Undecodable(Exception):
    def __init__(self, line: int, what: str) -> None:
        self.line, self.what = line, what


def table_rows(opened: Opened, file: str) -> Iterator[Read]:
    """Every row below the header as an object; raises `TrainError` when there is no header to go by."""
    delimiter = _delimiter(opened)
    reader = csv.reader(_lines(opened), delimiter=delimiter, strict=True)
    number, line = 0, 1
    try:
        header = next(reader, [])
        _check_header(header, file)
        line = reader.line_num + 1
        for fields in reader:
            start, line = line, reader.line_num + 1
            if not any(field.strip() for field in fields):
                continue
            number += 1
            place = Place(file, number, start)
            if len(fields) != len(header):
                detail = (
                    f"{len(fields)} {'field' if len(fields) == 1 else 'fields'} where the header has {len(header)}."
                )
                yield nothing("csv-fields", place, detail, found=delimiter.join(fields))
            else:
                yield place, dict(zip(header, fields, strict=True)), []
    except csv.Error as error:
        what = "a quoted field never ends." if "unexpected end" in str(error) else f"the table breaks off: {error}."
        yield nothing("csv-broken", Place(file, number + 1, line), what)
    except _Undecodable as error:
        yield nothing("encoding-broken", Place(file, number + 1, error.line), error.what)


def _check_header(header: list[str], file: str) -> None:
    if header and header[0].lower().startswith("sep="):
        raise TrainError(
            "data-shape",
            f"{file}: the first line is a hint for Excel (`sep=`), not a header.",
            "Remove that line, so that the names of the columns come first.",
        )
    doubled = sorted({name for name in header if name.strip() and header.count(name) > 1})
    if len(header) < 1 or not all(name.strip() for name in header) or doubled:
        what = f"names the column `{doubled[0]}` twice" if doubled else "does not name every column"
        raise TrainError("data-shape", f"{file}: the first line {what}.", "Write a header with one name a column.")


def _delimiter(opened: Opened) -> str:
    """The sign that parts the header into most columns, outside quotes."""
    if opened.path.suffixes[:1] in ([".tsv"], [".tab"]):
        return "\t"
    first = next((line for _, line in numbered(blocks(opened)) if isinstance(line, bytes) and line.strip()), b"")
    text = "".join(first.decode("utf-8", "replace").split('"')[::2])
    return max(DELIMITERS, key=text.count)


def _lines(opened: Opened) -> Iterator[str]:
    for number, line in numbered(blocks(opened)):
        if isinstance(line, TooLong):
            raise _Undecodable(number, f"the line is {line.size / 1e6:,.0f} MB long.")
        try:
            yield line.decode("utf-8") + "\n"
        except UnicodeDecodeError as error:
            raise _Undecodable(number, f"the byte 0x{line[error.start]:02x} is not UTF-8.") from error

"""What a data file is by its first bytes and its name, and its bytes as UTF-8 whatever they were."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.data.readers.captions import has_captions
from trainer.errors import TrainError

Shape = Literal["jsonl", "json", "csv", "text", "parquet", "captions"]
SHAPES: dict[Shape, str] = {
    "jsonl": "JSON lines", "json": "a JSON list", "csv": "a table", "text": "plain text", "parquet": "parquet",
    "captions": "pictures with captions",
}  # fmt: skip
BLOCK = 1 << 20
HEAD = 1 << 16
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_SUFFIXES: dict[str, Shape] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".tab": "csv",
    ".txt": "text", ".md": "text", ".parquet": "parquet",
}  # fmt: skip
# Files that people take for data sets, by their first bytes.
_OTHERS = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "Unpack it, or export the sheet as CSV."),
    (b"%PDF", "a PDF document", "Save its text as `.txt`."),
    (b"\xd0\xcf\x11\xe0", "an old Office document", "Export it as CSV or plain text."),
    (b"SQLite format 3", "an SQLite database", "Export the table as CSV."),
    (b"\x89PNG", "a picture", "Choose a file of text rows."),
    (b"\xff\xd8\xff", "a picture", "Choose a file of text rows."),
    (b"ARROW1", "an Arrow file", "Save the data set as parquet or JSONL."),
    (codecs.BOM_UTF32_LE, "a file in UTF-32, which hardly any program reads", "Save it as UTF-8."),
    (b"BZh", "a file compressed with bzip2", "Unpack it, or compress it with gzip."),
    (b"\xfd7zXZ", "a file compressed with xz", "Unpack it, or compress it with gzip."),
    (b"(\xb5/\xfd", "a file compressed with Zstandard", "Unpack it, or compress it with gzip."),
)
_PAGE = re.compile(rb"(?i)(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html)\b")


@dataclass(frozen=True)
class Opened:
    """A file that was looked at: its shape, whether it is compressed, and how its text is encoded."""

    path: Path
    shape: Shape
    compressed: bool
    encoding: str

    def __str__(self) -> str:
        how = [name for name, said in (("gzip", self.compressed), ("UTF-16", "16" in self.encoding)) if said]
        return SHAPES[self.shape] + (f" ({', '.join(how)})" if how else "")


class Damaged(Exception):
    """The compressed bytes end or break before the file does."""


def look(path: Path) -> Opened:
    """What the file is; raises `TrainError` when it is not there, is no data, or cannot be read."""
    if not path.exists():
        raise TrainError("data-missing", f"There is no data file at {path}.", "Check the path, or choose another file.")
    if path.is_dir() and has_captions(path):
        return Opened(path, "captions", compressed=False, encoding="utf-8")
    if not path.is_file():
        what = "is a folder, not a data file" if path.is_dir() else "is not a regular file"
        raise TrainError("data-missing", f"{path} {what}.", "Choose the data file inside it.")
    try:
        with path.open("rb") as stream:
            start = stream.read(HEAD)
        compressed = start.startswith(b"\x1f\x8b")
        head = _unpacked_head(path) if compressed else start
    except OSError as error:
        raise TrainError(
            "data-unreadable", f"{path} cannot be read: {error.strerror or error}.", "Check the file's permissions."
        ) from error
    for magic, what, remedy in _OTHERS:
        if head.startswith(magic):
            raise TrainError("data-shape", f"{path.name} is {what}, not rows of text.", remedy)
    if _PAGE.match(head) and path.suffix.lower() not in (".txt", ".md"):
        raise TrainError(
            "data-shape",
            f"{path.name} is a web page, most likely a login or an error that was saved in place of the file.",
            "Open it in a browser to see what it says, then fetch the file again.",
        )
    encoding = encoding_of(head)
    return Opened(path, _shape(path, compressed, head, encoding), compressed, encoding)


def encoding_of(head: bytes) -> str:
    """The encoding by the byte order mark, or by the zeros that UTF-16 leaves between Latin letters; else UTF-8."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    for name, zeros in (("utf-16-le", head[1:2000:2]), ("utf-16-be", head[0:2000:2])):
        if len(zeros) > 8 and zeros.count(0) > len(zeros) * 0.7:
            return name
    return "utf-8"


def blocks(opened: Opened) -> Iterator[bytes]:
    """The file's text as blocks of UTF-8, unpacked and without a mark; bytes that are no text come as they are."""
    if opened.encoding in ("utf-8", "utf-8-sig"):
        first = True
        for block in _raw(opened):
            yield block.removeprefix(codecs.BOM_UTF8) if first else block
            first = False
        return
    decoder = codecs.getincrementaldecoder(opened.encoding)(errors="replace")
    for block in _raw(opened):
        yield decoder.decode(block).encode("utf-8", errors="replace")
    yield decoder.decode(b"", final=True).encode("utf-8", errors="replace")


def _raw(opened: Opened) -> Iterator[bytes]:
    with _stream(opened.path, opened.compressed) as stream:
        while True:
            try:
                # Of a compressed file what can be unpacked before the damage.
                block = stream.read1(BLOCK) if opened.compressed else stream.read(BLOCK)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise Damaged(str(error)) from error
            if not block:
                return
            yield block


def _stream(path: Path, compressed: bool) -> Any:
    return gzip.open(path) if compressed else path.open("rb")


def _unpacked_head(path: Path) -> bytes:
    unpack: Any = zlib.decompressobj(31)
    with path.open("rb") as stream:
        try:
            head: bytes = unpack.decompress(stream.read(HEAD), HEAD)
        except zlib.error:
            return b""  # told by whoever reads on
    return head


def _shape(path: Path, compressed: bool, head: bytes, encoding: str) -> Shape:
    if head.startswith(b"PAR1"):
        return "parquet"
    name = path.with_suffix("") if compressed and path.suffix.lower() == ".gz" else path
    text = head.decode(encoding, errors="replace").lstrip()
    suffix = name.suffix.lower()
    if text.startswith("[") and suffix not in (".csv", ".tsv", ".tab", ".txt", ".md"):
        return "json"
    if suffix in _SUFFIXES and suffix != ".parquet":
        return _SUFFIXES[suffix]
    if text.startswith("{") or suffix == ".json" or not text:
        return "jsonl"
    first = text.splitlines()[0]
    return "csv" if re.search(r"[,;\t|]", first) and len(first) < 2000 else "text"

"""The rows of any file: each with its place, as a value or as what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.data.problems import Read, nothing
from trainer.data.readers.array import array_rows
from trainer.data.readers.captions import caption_rows
from trainer.data.readers.json_line import read_line
from trainer.data.readers.lines import numbered
from trainer.data.readers.opening import Damaged, Opened, blocks
from trainer.data.readers.plain_text import text_rows
from trainer.data.readers.table import table_rows
from trainer.data.samples import Place


def file_rows(opened: Opened, chunk_characters: int) -> Iterator[Read]:
    """Every row of a file of text, and every place where a row should be; parquet has a reader of its own."""
    file = opened.path.name
    try:
        if opened.shape == "json":
            yield from array_rows(opened, file)
        elif opened.shape == "csv":
            yield from table_rows(opened, file)
        elif opened.shape == "captions":
            yield from caption_rows(opened.path)
        elif opened.shape == "text":
            yield from text_rows(opened, file, chunk_characters)
        else:
            yield from _json_lines(opened, file)
    except Damaged as error:
        yield nothing("gzip-broken", Place(file, 0), f"the compressed file cannot be read to its end ({error}).")


def _json_lines(opened: Opened, file: str) -> Iterator[Read]:
    row, waiting, damage = 0, None, None
    lines = numbered(blocks(opened))
    while True:
        try:
            line = next(lines, None)
        except Damaged as error:
            line, damage = None, error
        if line and isinstance(line[1], bytes) and not line[1].strip():
            continue
        if waiting:
            row += 1
            yield read_line(waiting[1], Place(file, row, waiting[0]), last=line is None and damage is None)
        waiting = line
        if waiting is None:
            break
    if damage:
        raise damage

"""A copy of a data set in which everything is mended that can be mended safely; the original is never touched."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.data.doctor.check import looks_latin
from trainer.data.doctor.picture_check import rows_lost
from trainer.data.doctor.row_check import RowCheck
from trainer.data.problems import Read
from trainer.data.readers.lines import numbered
from trainer.data.readers.opening import Opened, blocks, look
from trainer.data.readers.piped import parquet_rows
from trainer.data.readers.rows import file_rows
from trainer.data.sources import Source
from trainer.data.split import content_key
from trainer.errors import TrainError
from trainer.spec.data import Data

LEFT_OUT = "left out: "  # in front of a kind: rows that the copy lacks because of it


def write_mended(source: Source, data: Data, python: Path | None, out: Path) -> tuple[int, Counter[str]]:
    """Write the rows that can be learned to `out` as JSON lines in UTF-8; returns their number and what was done.

    Text of another encoding is converted, numbers that are none become null, halves of characters the mark for a lost
    one; rows that are there twice or cannot be learned from, also for their pictures, are left out and counted. Raises
    `TrainError` when `out` exists.
    """
    if source.of_classes:
        raise TrainError(
            "data-output",
            f"{source.name} is a folder of pictures, which has no rows to mend.",
            "Mend the folder itself: remove or replace what the check names.",
        )
    if out.exists():
        raise TrainError("data-output", f"{out} is there already.", "Name a new file; nothing was changed.")
    done: Counter[str] = Counter()
    partial = out.with_name(out.name + ".part")
    rows = 0
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as stream:
            for value in _kept(source, data, python, done):
                stream.write(json.dumps(value, ensure_ascii=False) + "\n")
                rows += 1
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, out)
    except OSError as error:
        raise TrainError(
            "data-output",
            f"{out} cannot be written: {error.strerror}.",
            "Name a file in a folder that you can write to.",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return rows, done


def _kept(source: Source, data: Data, python: Path | None, done: Counter[str]) -> Iterator[Any]:
    check = RowCheck(data.format, source.columns(data.columns))
    seen: set[bytes] = set()
    lost: dict[int, str] | None = None
    for place, value, findings in _read(source, data, python, done):
        sample = check.add((place, value, findings))
        if sample is None:
            continue
        if sample.pictures:
            lost = rows_lost(source, data, python) if lost is None else lost
            if place.row in lost:
                done[LEFT_OUT + lost[place.row]] += 1
                continue
        key = content_key(sample)
        if key in seen:
            done[LEFT_OUT + "duplicate-row"] += 1
            continue
        seen.add(key)
        yield value
    done.update({LEFT_OUT + kind: count for kind, count in check.tally.dropped.items()})


def _read(source: Source, data: Data, python: Path | None, done: Counter[str]) -> Iterator[Read]:
    if source.path is None:
        yield from source.rows(data.chunk_characters, python)
        return
    opened = look(source.path)
    if opened.shape == "parquet":
        yield from parquet_rows(source.path, python)
        return
    if opened.encoding == "utf-8" and not opened.compressed and looks_latin(opened):
        opened = replace(opened, encoding="cp1252")
        done["encoding-latin"] = 1
    if opened.encoding != "utf-8":
        done.setdefault(
            {"utf-8-sig": "encoding-mark", "cp1252": "encoding-latin"}.get(opened.encoding, "encoding-utf16"), 1
        )
    if opened.shape == "jsonl":
        yield from _mended_lines(opened, data, done)
    else:
        yield from file_rows(opened, data.chunk_characters)


def _mended_lines(opened: Opened, data: Data, done: Counter[str]) -> Iterator[Read]:
    """The rows of JSON lines; where one is refused for what is easily mended, the mended row."""
    raw = numbered(blocks(opened))
    line: Any = b""
    number = 0
    for place, value, findings in file_rows(opened, data.chunk_characters):
        while place.line and number < place.line:
            number, line = next(raw)
        kind = findings[0].kind if findings else ""
        mended = _mended(line) if kind in ("not-finite", "surrogate") and isinstance(line, bytes) else None
        if mended is not None:
            done[kind] += 1
        yield (place, value, findings) if mended is None else (place, mended, [])


def _mended(line: bytes) -> Any:
    """The row without the numbers and characters that are none; None where something else is broken as well."""
    try:
        return _without_halves(json.loads(line, parse_constant=lambda _: None))
    except (ValueError, RecursionError):
        return None


def _without_halves(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_halves(each) for each in value]
    return (
        {_without_halves(key): _without_halves(each) for key, each in value.items()}
        if isinstance(value, dict)
        else value
    )

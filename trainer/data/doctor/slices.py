"""The structural pass over one part of a file, in a process of its own that may fail alone.

Takes one JSON object a line: the part and how its rows are to be read. Answers each with a line of JSON that says
how many bytes follow, and then those: one hash a line of the file (or, where the source has no slices, one hash a
row and then one line number a row).
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from trainer.data.doctor.row_check import RowCheck
from trainer.data.doctor.serving import Say, serve, source_of
from trainer.data.problems import Finding
from trainer.data.readers.json_line import read_line
from trainer.data.readers.lines import LONG, Line, TooLong, in_lists
from trainer.data.samples import Place

BLOCK = 1 << 20
PROGRESS_ROWS = 20_000
MARK = b"\xef\xbb\xbf"


class Slice:
    """The lines of a file that begin in a range of bytes."""

    def __init__(self, path: Path, start: int, end: int, check: RowCheck) -> None:
        self._path, self._start, self._end, self._check = path, start, end, check
        self.hashes = array("q")  # one a line; zero for a line without a row
        self.carriage_returns = False

    def run(self) -> None:
        """Check every line; what the quick test does not pass is looked at closely."""
        loads, quick, counts, hashes = orjson.loads, self._check.quick, self._check.quick_rows, self.hashes
        for lines, final in _and_whether_last(in_lists(self._blocks())):
            for index, line in enumerate(lines):
                try:
                    row = loads(line)  # type: ignore[arg-type] # what is no bytes raises what is caught
                    columns = tuple(row)
                    passed = quick[columns](row) and len(line) < LONG  # type: ignore[arg-type]
                except (ValueError, KeyError, TypeError, MemoryError):
                    passed = False
                if passed:
                    counts[columns] += 1
                    hashes.append(hash(line))
                else:
                    last = final and not any(isinstance(each, TooLong) or each.strip() for each in lines[index + 1 :])
                    hashes.append(self._closely(line, last=last))
        self._check.count_quick()

    def _closely(self, line: Line, *, last: bool) -> int:
        """Count the line with all that is wrong with it; returns its hash."""
        if isinstance(line, bytes) and not line.strip():
            return 0
        number = len(self.hashes) + 1
        place = Place(self._path.name, number, number)
        try:
            if self._check.add(read_line(line, place, last=last)) is None:
                return 0  # what cannot be learned is no repetition either
        except MemoryError:
            self._check.tally.rows += 1
            size = line.size if isinstance(line, TooLong) else len(line)
            detail = f"the row of {size / 1e6:.0f} MB needs more memory than a row may."
            self._check.tally.drop(Finding("rows-unchecked", place, detail))
        return hash(line) if isinstance(line, bytes) else 0

    def _blocks(self) -> Iterator[bytes]:
        with self._path.open("rb") as stream:
            at = self._first_line(stream)
            block = b"\n"
            while at < self._end and (block := stream.read(min(BLOCK, self._end - at))):
                at += len(block)
                self.carriage_returns = self.carriage_returns or b"\r\n" in block
                yield block
            # Behind the slice only the line is read on that began in it.
            while block and not block.endswith(b"\n") and (block := stream.readline(BLOCK)):
                yield block

    def _first_line(self, stream: IO[bytes]) -> int:
        """Go to the first line that begins in the slice; returns its offset."""
        if self._start == 0:
            return stream.seek(len(MARK) if stream.read(len(MARK)) == MARK else 0)
        at = stream.seek(self._start - 1)
        while piece := stream.readline(BLOCK):
            at += len(piece)
            if piece.endswith(b"\n"):
                break
        return at


def _and_whether_last(lists: Iterable[list[Line]]) -> Iterator[tuple[list[Line], bool]]:
    before: list[Line] | None = None
    for lines in lists:
        if before is not None:
            yield before, False
        before = lines
    if before is not None:
        yield before, True


def check_slice(task: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """One task on a file of JSON lines: its tally and a hash a line."""
    check = RowCheck(task["format"], task["columns"])
    part = Slice(Path(task["path"]), task["start"], task["end"], check)
    part.run()
    about = {"tally": check.tally.to_json(), "lines": len(part.hashes), "carriage_returns": part.carriage_returns}
    return about, part.hashes.tobytes()


def check_whole(task: dict[str, Any], say: Say) -> tuple[dict[str, Any], bytes]:
    """One task on a source that has no slices: its tally, a hash a row, and then a line number a row."""
    check = RowCheck(task["format"], task["columns"])
    source, python = source_of(task)
    hashes, lines = array("q"), array("q")
    for read in source.rows(task["chunk_characters"], python):
        check.add(read)
        if read[1] is not None:
            hashes.append(hash(json.dumps(read[1], sort_keys=True, default=str)))
            lines.append(read[0].line or 0)
        if check.tally.rows % PROGRESS_ROWS == 0:
            say({"rows": check.tally.rows}, b"")
    about = {"tally": check.tally.to_json(), "lines": len(hashes), "carriage_returns": False}
    return about, hashes.tobytes() + lines.tobytes()


def main() -> None:
    """Serve the structural pass."""
    serve(lambda task, say: check_slice(task) if "start" in task else check_whole(task, say))

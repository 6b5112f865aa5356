"""The structural pass over a whole source: slices of it on several processes, put together in order."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainer.data.doctor.processes import Answer, answers
from trainer.data.doctor.tally import Tally
from trainer.data.problems import Finding
from trainer.data.readers.opening import Opened
from trainer.data.samples import Place
from trainer.data.sources import Source
from trainer.errors import TrainError
from trainer.spec.data import Data

SLICE = 16 << 20
AT_ONCE = 500_000  # hashes compared in one set
Progress = Callable[[float], None]


@dataclass
class Structure:
    """What the pass found."""

    tally: Tally = field(default_factory=Tally)
    carriage_returns: bool = False
    duplicates: int = 0


@dataclass(frozen=True)
class _Part:
    hashes: array[int]
    lines: array[int] | None


def task_of(source: Source, data: Data, python: Path | None) -> dict[str, Any]:
    """The whole source as a task for a checking process."""
    about = asdict(source) | {"path": str(source.path) if source.path else None}
    how = {"format": data.format, "columns": source.columns(data.columns), "chunk_characters": data.chunk_characters}
    return {**about, **how, "python": str(python) if python else None}


def check_structure(
    source: Source, opened: Opened | None, data: Data, python: Path | None, progress: Progress
) -> Structure:
    """Parse every row, look at its columns, roles and text, and find rows that are there twice.

    `progress` is told the share that is done. Raises `TrainError` for a source that cannot be read at all.
    """
    task = task_of(source, data, python)
    tasks = [task]
    if opened and opened.shape == "jsonl" and not opened.compressed and opened.encoding in ("utf-8", "utf-8-sig"):
        size = opened.path.stat().st_size
        tasks = [{**task, "start": at, "end": min(at + SLICE, size)} for at in range(0, size, SLICE)]
    return _put_together(source.name, answers("slices", tasks, progress))


def _put_together(file: str, parts: Iterable[Answer]) -> Structure:
    found, kept, lines = Structure(), [], 0
    for about, data in parts:
        if "code" in about:
            raise TrainError(about["code"], about["message"], about["remedy"])
        if "tally" in about:
            found.tally.add(Tally.from_json(about["tally"]), lines)
            found.carriage_returns |= about["carriage_returns"]
        else:
            detail = "the rows from here on could not be checked; they need too much memory, or end the checker."
            found.tally.drop(Finding("rows-unchecked", Place(file, lines + 1, lines + 1), detail))
        kept.append(_arrays(about.get("lines", 0), data))
        lines += len(kept[-1].hashes)
    twice = _equal_hashes([part.hashes for part in kept])
    if twice:
        _place_duplicates(file, kept, twice, found)
    return found


def _arrays(count: int, data: bytes) -> _Part:
    values = array("q")
    values.frombytes(data)
    return _Part(values[:count], values[count:]) if len(values) > count else _Part(values, None)


def _equal_hashes(parts: list[array[int]]) -> set[int]:
    """Hashes that occur more than once; all in one set would take most of the memory, so they go by remainder."""
    rounds = sum(map(len, parts)) // AT_ONCE + 1
    twice: set[int] = set()
    for remainder in range(rounds):
        seen: set[int] = set()
        for part in parts:
            here = part if rounds == 1 else [each for each in part if each % rounds == remainder]
            new = set(here)
            if len(new) < len(here):
                twice |= _repeated(here)
            twice |= seen & new
            seen |= new
    return twice - {0}


def _repeated(hashes: Iterable[int]) -> set[int]:
    seen: set[int] = set()
    again: set[int] = set()
    for each in hashes:
        (again if each in seen else seen).add(each)
    return again


def _place_duplicates(file: str, parts: list[_Part], twice: set[int], found: Structure) -> None:
    first: dict[int, int] = {}
    base = 0
    for part in parts:
        for index, each in enumerate(part.hashes):
            if each not in twice:
                continue
            row = base + index + 1
            line = (part.lines[index] or None) if part.lines else row
            if each not in first:
                first[each] = line or row
                continue
            found.duplicates += 1
            what = f"the same row as {'line' if line else 'row'} {first[each]}."
            found.tally.find(Finding("duplicate-row", Place(file, row, line), what))
        base += len(part.hashes)

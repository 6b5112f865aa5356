"""Read a run's data into samples, or say exactly where it is wrong. Torch-free."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from trainer.data.formats import ACCEPTED, Forms, to_sample
from trainer.data.pictures import placed
from trainer.data.problems import KINDS, Finding, RowError
from trainer.data.samples import Place, Sample
from trainer.data.sources import HELD_OUT, HUB, Source, find, folder_part
from trainer.data.split import content_key, part, without_duplicates
from trainer.errors import TrainError
from trainer.spec.data import Data

T = TypeVar("T")
THIS_INTERPRETER = Path(sys.executable)


@dataclass
class Samples:
    """The rows of a run; `dropped` counts the rows left out by their reason, `first_dropped` has one place of each."""

    train: list[Sample]
    held_out: list[Sample]
    dropped: Counter[str] = field(default_factory=Counter)
    first_dropped: dict[str, Place] = field(default_factory=dict)

    def drop(self, reason: str, place: Place) -> None:
        """Count a row that is left out."""
        self.dropped[reason] += 1
        self.first_dropped.setdefault(reason, place)

    def left_out(self) -> list[str]:
        """A sentence for each reason for which rows are not learned."""
        return [
            f"{count:,} {'row' if count == 1 else 'rows'} with {KINDS[kind].title} left out, the first at {self.first_dropped[kind]}."
            for kind, count in self.dropped.items()
        ]


@dataclass(frozen=True)
class Keyed:
    """A sample with the row that it was read from and the key of the group that it must stay with."""

    sample: Sample
    row: Any
    key: bytes


def first_samples(data: Data, most: int) -> list[Sample] | None:
    """The first rows that are trained on, without reading the others; None where settings choose among all rows."""
    if data.deduplicate or (data.held_out_share and not held_out_source(data)):
        return None
    keyed = islice(_read(find(data.train), data, THIS_INTERPRETER, Samples([], [])), most)
    rows = [each.sample for each in keyed]
    return rows if len(rows) == most or not data.mix else None


def read_samples(
    data: Data, python: Path | None = THIS_INTERPRETER, tell: Callable[[], None] = lambda: None
) -> Samples:
    """All rows that the settings name, mixed, without duplicates and split as they say.

    `python` reads what needs pyarrow or datasets; `tell` is called after every row, and what it raises ends the
    reading. Raises `TrainError` with file and line for the first row that cannot be learned from, unless
    `data.bad_rows` is `drop`.
    """

    def rows_of(source: Source) -> Iterator[Keyed]:
        for each in _read(source, data, python, found):
            tell()
            yield each

    found = Samples([], [])
    train: list[tuple[Sample, bytes]] = []
    for named, weight in ((data.train, 1.0), *mixed_in(data.mix)):
        rows = [(each.sample, each.key) for each in rows_of(find(named))]
        train += weighted(rows, weight, data.split_seed)
    held_out = held_out_source(data)
    if held_out:
        found.held_out = [each.sample for each in rows_of(held_out)]
    elif data.held_out_share:
        marks = part([key for _, key in train], data.held_out_share, data.split_seed)
        found.held_out = [sample for (sample, _), mark in zip(train, marks, strict=True) if mark]
        train = [each for each, mark in zip(train, marks, strict=True) if not mark]
    found.train = [sample for sample, _ in train]
    if data.deduplicate:
        _deduplicate(found)
    return found


def held_out_source(data: Data) -> Source | None:
    """The held-out rows by name, or those beside the training rows in a folder; None where there are none."""
    if data.held_out:
        return find(data.held_out, held_out=True)
    if data.train.startswith(HUB) or not Path(data.train).is_dir():
        return None
    path = folder_part(Path(data.train), HELD_OUT)
    return Source(path.name, path) if path else None


def mixed_in(text: str) -> list[tuple[str, float]]:
    """`data.mix` as (name, weight); raises `TrainError` for what is not of that form."""
    found = []
    for item in filter(None, (piece.strip() for piece in text.split(";"))):
        name, equals, weight = (piece.strip() for piece in item.rpartition("="))
        try:
            number = float(weight) if equals and name else -1.0
        except ValueError:
            number = -1.0
        if not 0 < number <= 1000:
            raise TrainError(
                "data-mix",
                f"`data.mix`: '{item}' does not name a data set and its weight.",
                "Write it as `other.jsonl = 0.5; third.csv = 2`; a weight is how often its rows come in one pass.",
            )
        found.append((name, number))
    return found


def weighted(rows: list[T], weight: float, seed: int) -> list[T]:
    """Every row as often as the weight says; of a broken part, a seeded choice of rows."""
    whole = int(weight)
    some = round((weight - whole) * len(rows))
    chosen = sorted(random.Random(seed).sample(range(len(rows)), some))
    return rows * whole + [rows[index] for index in chosen]


def read_rows(source: Source, data: Data, python: Path | None) -> Iterator[tuple[Any, bytes]]:
    """Every row as it was read, with the key of its group; raises `TrainError` for one that cannot be learned from."""
    if source.of_classes:
        raise TrainError(
            "data-split",
            f"{source.name} is a folder of pictures, which has no rows to write into two files.",
            "Set `data.held_out_share`, which keeps a part of the pictures aside.",
        )
    return ((each.row, each.key) for each in _read(source, data, python, Samples([], [])))


def read_file(path: Path) -> list[Sample]:
    """All rows of one file as its columns tell; raises `TrainError` for the first that is wrong."""
    return [each.sample for each in _read(find(str(path)), Data(), THIS_INTERPRETER, Samples([], []))]


def _read(source: Source, data: Data, python: Path | None, found: Samples) -> Iterator[Keyed]:
    forms = Forms(data.format, source.columns(data.columns))
    there = False
    for place, value, problems in source.rows(data.chunk_characters, python):
        try:
            error = next((problem for problem in problems if problem.drops), None)
            if error is None:
                sample = to_sample(forms.of(value), value, place)[0]
                if sample.pictures:
                    sample = replace(sample, pictures=placed(sample.pictures, source.folder))
        except RowError as wrong:
            error = wrong.at(place)
        if error is None:
            there = True
            yield Keyed(sample, value, _group(value, data.split_by, place) or content_key(sample))
        elif data.bad_rows == "drop":
            found.drop(error.kind, place)
        else:
            raise refusal(error)
    if not there:
        left_out = sum(found.dropped.values())
        what = f"holds no row that can be learned from ({left_out} were left out)" if left_out else "holds no rows"
        raise TrainError("data-empty", f"{source.name} {what}.", f"Add rows with {ACCEPTED}.")


def refusal(problem: Finding) -> TrainError:
    """The error that a run ends with before it begins."""
    if problem.kind == "preference":
        return TrainError(
            "data-preference",
            str(problem),
            "Use rows with one answer, or name it: `data.columns: prompt=prompt, completion=chosen`.",
        )
    kind = KINDS[problem.kind]
    look = "`fettle data check FILE` lists all such places; `data.bad_rows: drop` trains without them."
    advice = f"Use rows with {ACCEPTED}; or name your columns in `data.columns`." if problem.kind in _COLUMNS else ""
    return TrainError("data-row-invalid", str(problem), f"{advice or kind.fix or 'Mend or remove the row.'} {look}")


_COLUMNS = ("columns-unknown", "columns-missing", "not-object")


def _group(row: Any, column: str, place: Place) -> bytes:
    if not column:
        return b""
    if column not in row:
        raise TrainError(
            "data-split",
            f"{place}: there is no column `{column}` to split by.",
            "Correct `data.split_by`, or empty it.",
        )
    return repr(row[column]).encode("utf-8", "replace")


def _deduplicate(found: Samples) -> None:
    kept = without_duplicates(found.train)
    places = {id(sample) for sample in kept}
    for sample in found.train:
        if id(sample) not in places:
            found.drop("duplicate-row", sample.place)
    found.train = kept

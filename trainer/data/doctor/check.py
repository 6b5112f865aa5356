"""The doctor: what a data set is, how many of its rows can be learned, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from trainer.data.doctor.likeness import MOST_ROWS
from trainer.data.doctor.picture_check import check_pictures
from trainer.data.doctor.processes import Worker, one_hash_seed
from trainer.data.doctor.row_check import RowCheck
from trainer.data.doctor.structure import check_structure, task_of
from trainer.data.doctor.tally import Tally
from trainer.data.labels import of_classes
from trainer.data.problems import KINDS, Finding, Read
from trainer.data.readers.opening import Opened, look
from trainer.data.samples import Place
from trainer.data.sources import Source
from trainer.errors import TrainError
from trainer.spec.data import Data

PAGE = 20


@dataclass
class Report:
    """What a check found; `partial` says in words what was not looked at."""

    name: str
    shape: str
    tally: Tally
    duplicates: int = 0
    partial: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether a run could learn from every row."""
        return self.tally.usable > 0 and not self.tally.errors

    def to_json(self) -> dict[str, Any]:
        """The report for programs."""
        counts = {name: dict(getattr(self.tally, name)) for name in ("formats", "dropped", "counts", "classes")}
        return {
            "name": self.name, "shape": self.shape, "sound": self.sound, "rows": self.tally.rows,
            "usable": self.tally.usable, "duplicates": self.duplicates, "pictures": self.tally.pictures, **counts,
            "findings": [finding_json(finding) for finding in self.tally.findings], "partial": self.partial,
        }  # fmt: skip


@dataclass(frozen=True)
class Listener:
    """Who is told while a check goes on: the share done of a phase, and each finding whose place is kept."""

    progress: Callable[[str, float | None], None] = lambda _phase, _share: None
    finding: Callable[[Finding], None] = lambda _: None


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding with what its kind means and what would mend it."""
    kind = KINDS[finding.kind]
    place = asdict(finding.place)
    about = {name: getattr(finding, name) for name in ("detail", "field", "column", "found")}
    return {"kind": finding.kind, "weight": kind.weight, **place, **about, "meaning": kind.meaning, "fix": kind.fix}


def first_page(source: Source, data: Data, python: Path | None, most: int = PAGE) -> tuple[list[Read], Tally]:
    """The first rows as they were read, and what is wrong with those."""
    check = RowCheck(data.format, source.columns(data.columns))
    reads = list(islice(source.rows(data.chunk_characters, python), most))
    for read in reads:
        check.add(read)
    return reads, check.tally


def check(
    source: Source,
    data: Data,
    python: Path | None,
    *,
    held_out: Source | None = None,
    slow: bool = True,
    listener: Listener = Listener(),
    opener: Callable[[], Path | None] | None = None,
) -> Report:
    """Check a source from its first byte; raises `TrainError` where nothing of it can be read.

    `python` reads what needs pyarrow or datasets. Where rows have pictures, `opener` is asked for what opens them.
    """
    opened = look(source.path) if source.path and not source.of_classes else None
    found = check_structure(source, opened, data, python, lambda share: listener.progress("Reading every row", share))
    unopened = "a folder for each class" if source.of_classes else "a data set of the hub"
    report = Report(source.name, str(opened or unopened), found.tally, found.duplicates)
    for finding in _of_the_file(source.name, opened, found.tally, carriage_returns=found.carriage_returns):
        found.tally.find(finding)
    for finding in of_classes(source.name, found.tally.classes):
        found.tally.find(finding)
    for finding in found.tally.findings:
        listener.finding(finding)
    if slow and found.tally.pictures:
        said = partial(listener.progress, "Opening pictures")
        pillow = opener() if opener else python
        report.partial += check_pictures(source, held_out, data, pillow, found.tally, listener.finding, said)
    if slow and found.tally.usable:
        _later(source, data, python, held_out, report, listener)
    return report


def _of_the_file(name: str, opened: Opened | None, tally: Tally, *, carriage_returns: bool) -> list[Finding]:
    """What is to be said of the file as a whole."""
    found = []
    place = Place(name, 1, 1)
    if opened and opened.encoding == "utf-8-sig":
        found.append(Finding("encoding-mark", place, "the file begins with a byte order mark."))
    if opened and "16" in opened.encoding:
        found.append(Finding("encoding-utf16", place, "the file is UTF-16 text."))
    if carriage_returns:
        found.append(Finding("line-breaks", place, "the lines end as on Windows (CRLF)."))
    if opened and tally.counts["encoding-broken"] and looks_latin(opened):
        found.append(Finding("encoding-latin", place, "the whole file seems to be Windows-1252 (Latin-1)."))
    return found


def looks_latin(opened: Opened) -> bool:
    """Whether the bytes beyond ASCII are hardly ever UTF-8, as in a file that an old program wrote."""
    if opened.shape == "captions":
        return False
    with opened.path.open("rb") as stream:
        head = stream.read(4 << 20)
    beyond = [line for line in head.split(b"\n")[:-1] or [head] if not line.isascii()]
    broken = sum(_undecodable(line) for line in beyond)
    return bool(beyond) and broken > 0.9 * len(beyond) and not any(byte in head for byte in (0, 1, 2, 3))


def _undecodable(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _later(
    source: Source, data: Data, python: Path | None, held_out: Source | None, report: Report, listener: Listener
) -> None:
    """The slower checks; their findings are told as they are found."""
    task = {**task_of(source, data, python), "held_out": held_out and task_of(held_out, data, python)}
    worker = Worker("later", one_hash_seed())
    rows = report.tally.rows

    def heard(about: dict[str, Any]) -> None:
        if "finding" in about:
            told = about["finding"]
            listener.finding(Finding(**{**told, "place": Place(**told["place"])}))
        share = min(1.0, about["rows"] / rows) if rows and not held_out else None
        listener.progress("Looking for repetitions, leaks and personal data", share)

    try:
        about, _ = worker.ask(task, heard)
    finally:
        worker.end()
    if "code" in about:
        raise TrainError(about["code"], about["message"], about["remedy"])
    if "tally" not in about:
        report.partial.append(
            "The slower checks (repeated columns, near duplicates, leaks, personal data) ended early, most likely for lack of memory."
        )
        return
    later = Tally.from_json(about["tally"])
    report.tally.counts += later.counts
    report.tally.findings += later.findings
    if rows > MOST_ROWS:
        report.partial.append(f"Near duplicates were looked for among the first {MOST_ROWS:,} rows.")

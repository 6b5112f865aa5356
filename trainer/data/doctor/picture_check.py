"""Every picture that rows name or hold: opened by processes with limits, and compared by how it looks."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from trainer.data.doctor.looks import Looks
from trainer.data.doctor.processes import Worker
from trainer.data.doctor.structure import task_of
from trainer.data.doctor.tally import Tally
from trainer.data.problems import Finding, shorten
from trainer.data.samples import Place
from trainer.data.sources import Source
from trainer.errors import TrainError
from trainer.spec.data import Data

MOST_PROCESSES = 2  # each may take what one large picture takes
MEMORY = 3 << 29  # bytes of address space of each; a picture of 100 million pixels takes two thirds of it
CPU_SECONDS, SECONDS = 20, 60.0  # for one picture
MOST_DEADLY = 20  # pictures over which a process may end, before the rest is left alone
NAMED = 6  # pictures of a group that are named
UNOPENED = "The pictures were not opened, for which an environment is needed (`fettle env install`); only their names were checked."
ENDED_EARLY = "The pictures were not all opened: reading the rows ended early, most likely for lack of memory."
GIVEN_UP = f"Pictures behind the first {MOST_DEADLY} that ended their checker were not all opened."
Opened = dict[str, Any]
Progress = Callable[[float], None]


class PictureCheck:
    """Counts what is found of the pictures of the training rows, and then of the held-out rows."""

    def __init__(self, tally: Tally, found: Callable[[Finding], None]) -> None:
        self._tally, self._found = tally, found
        self.lost: dict[int, str] = {}  # rows that cannot be learned, by what is wrong with their first bad picture
        self._looks = Looks()
        self._first: dict[str, int] = {}  # of each file, the picture that named it first
        self._named: list[tuple[str, Place]] = []
        self._groups: dict[int, list[int]] = {}

    def add(self, opened: Opened) -> None:
        """Count one picture of a training row."""
        place, name = Place(*opened["place"]), _called(opened)
        error = _error(opened, place, name)
        if error:
            new = place.row not in self.lost
            self.lost.setdefault(place.row, error.kind)
            self._tally.usable -= new
            self._tell(error, self._tally.drop if new else self._tally.find)
            return
        if opened["key"] in self._first:
            return
        number = self._first[opened["key"]] = len(self._named)
        self._named.append((name, place))
        for kind, detail in opened.get("notes", ()):
            self._tell(Finding(kind, place, f"the picture {name} {detail}."), self._tally.find)
        looks = opened.get("looks", "")
        same = self._looks.find(looks)
        if same is None:
            self._looks.remember(looks, number)
        else:
            self._groups.setdefault(same, [same]).append(number)

    def add_held_out(self, opened: Opened) -> None:
        """Hold one picture of a held-out row against those that are trained on."""
        same = self._first.get(opened["key"], self._looks.find(opened.get("looks", "")))
        if same is not None:
            other, place = self._named[same]
            what = "also in" if opened["key"] in self._first else f"the same to look at as {other} of"
            detail = f"the picture {_called(opened)} is {what} training row {place.row}."
            self._tell(Finding("leakage-picture", Place(*opened["place"]), detail), self._tally.find)

    def tell_groups(self) -> None:
        """Tell which pictures of the training rows look the same."""
        for numbers in self._groups.values():
            named = [f"{name} (row {place.row})" for name, place in (self._named[each] for each in numbers[:NAMED])]
            more = f" and {len(numbers) - NAMED:,} more" if len(numbers) > NAMED else ""
            detail = f"{len(numbers):,} pictures look the same: {', '.join(named)}{more}."
            self._tell(Finding("pictures-alike", self._named[numbers[0]][1], detail), self._tally.find)

    def _tell(self, finding: Finding, count: Callable[[Finding], bool]) -> None:
        if count(finding):
            self._found(finding)


def check_pictures(
    source: Source,
    held_out: Source | None,
    data: Data,
    python: Path | None,
    tally: Tally,
    found: Callable[[Finding], None],
    progress: Progress,
) -> list[str]:
    """Count into `tally` what is wrong with pictures; returns in words what was not looked at."""
    check, partial = PictureCheck(tally, found), _Partial()
    task = task_of(source, data, python)
    with closing(_opened(task, python, partial, lambda rows: progress(rows / tally.rows))) as pictures:
        for opened in pictures:
            check.add(opened)
    check.tell_groups()
    if held_out:
        with closing(_opened(task_of(held_out, data, python), python, partial, lambda _: None)) as pictures:
            for opened in pictures:
                check.add_held_out(opened)
    return partial.said


def rows_lost(source: Source, data: Data, python: Path | None) -> dict[int, str]:
    """The rows whose pictures cannot be learned from, each with the kind of what is wrong."""
    check = PictureCheck(Tally(), lambda _: None)
    with closing(_opened(task_of(source, data, python), python, _Partial(), lambda _: None)) as pictures:
        for opened in pictures:
            check.add(opened)
    return check.lost


class _Partial:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, *sentences: str) -> None:
        self.said += [each for each in sentences if each not in self.said]


class _Left(Exception):
    """Nobody waits for the pictures any more."""


def _opened(
    task: dict[str, Any], python: Path | None, partial: _Partial, progress: Callable[[int], None]
) -> Generator[Opened, None, None]:
    """Every picture in the order of the rows, opened by several processes."""
    shares = max(1, min(os.cpu_count() or 1, MOST_PROCESSES))
    limits = {"memory": MEMORY, "cpu_seconds": CPU_SECONDS, "seconds": SECONDS, "shares": shares}
    said: queue.Queue[dict[str, Any] | None] = queue.Queue()
    left = threading.Event()

    def say(about: dict[str, Any]) -> None:
        if left.is_set():
            raise _Left
        said.put(about)

    def work(share: int) -> None:
        try:
            _open_share({**task, **limits, "share": share}, python, say, partial)
        except _Left:
            pass
        finally:
            said.put(None)

    with ThreadPoolExecutor(shares) as pool:
        working = [pool.submit(work, share) for share in range(shares)]
        try:
            yield from _in_order(_until_all_end(said, shares), progress)
        finally:
            left.set()
        for each in working:
            each.result()


def _until_all_end(said: queue.Queue[dict[str, Any] | None], shares: int) -> Iterator[dict[str, Any]]:
    ended = 0
    while ended < shares:
        about = said.get()
        if about is None:
            ended += 1
        else:
            yield about


def _in_order(told: Iterable[dict[str, Any]], progress: Callable[[int], None]) -> Iterator[Opened]:
    """The opened pictures by their numbers; those behind a gap, which a process that ended early leaves, come last."""
    waiting: dict[int, Opened] = {}
    number = 0
    for about in told:
        progress(about["rows"])
        if "opened" in about:
            waiting[about["opened"]["number"]] = about["opened"]
        while number in waiting:
            yield waiting.pop(number)
            number += 1
    for number in sorted(waiting):
        yield waiting[number]


def _open_share(
    task: dict[str, Any], python: Path | None, say: Callable[[dict[str, Any]], None], partial: _Partial
) -> None:
    """Have one process open its share; where a picture ends it, another goes on behind that."""
    worker = Worker("opener", dict(os.environ), python)
    opening: Opened | None = None
    deadly: list[str] = []

    def heard(about: dict[str, Any]) -> None:
        nonlocal opening
        opening = about.get("opening")
        say(about)

    try:
        begin = 0
        while len(deadly) < MOST_DEADLY:
            answer, _ = worker.ask({**task, "begin": begin, "deadly": deadly}, heard)
            if "code" in answer:
                raise TrainError(answer["code"], answer["message"], answer["remedy"])
            if "opens" in answer or opening is None:
                partial.say(*([] if answer.get("opens") else [UNOPENED if "opens" in answer else ENDED_EARLY]))
                return
            deadly.append(opening["key"])
            begin = opening["number"] + 1
            say({"rows": opening["place"][1], "opened": {**opening, "deadly": True}})
        partial.say(GIVEN_UP)
    finally:
        worker.end()


def _called(opened: Opened) -> str:
    return shorten(opened["name"]) or "in the row"


def _error(opened: Opened, place: Place, name: str) -> Finding | None:
    """Why the picture cannot be learned from, if it cannot."""
    if "error" in opened:
        return Finding(opened["error"][0], place, opened["error"][1])
    if "unreadable" in opened:
        return Finding("picture-unreadable", place, f"the picture {name} cannot be used: {opened['unreadable']}.")
    if opened.get("deadly"):
        detail = f"opening the picture {name} takes more than {SECONDS:.0f} seconds or {MEMORY / 1e9:.1f} GB, or ends the checker."
        return Finding("picture-unchecked", place, detail)
    return None

"""The folder of a long operation: what it is asked, what it reports, and whether it is alive.

An operation is a detached process with a folder of its own. It appends one JSON object a line to
`events.jsonl`, holds a lock on the folder while it lives, and looks for requests. Everybody else only
reads. Standard library and filelock alone: the app reads the same file the same way.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from filelock import FileLock, Timeout

PROTOCOL = 1
EVENTS, LOG, LOCK, REQUESTS, RECORD = "events.jsonl", "log.txt", "lock", "requests", "operation.json"

EventType = Literal[
    "hello",
    "phase",
    "progress",
    "step",
    "eval",
    "sample",
    "checkpoint",
    "warning",
    "done",
    "stopped",
    "paused",
    "failed",
]
Request = Literal["stop", "pause"]
State = Literal["starting", "running", "done", "stopped", "paused", "failed", "crashed"]
FINAL: tuple[EventType, ...] = ("done", "stopped", "paused", "failed")
LOCK_SECONDS = 10.0
HANDOVER = "handover"  # the phase in which one process has let the folder go for the next one to take
RESUMED = "resumed"  # lies among the requests from the moment of a resumption until its process has reported
STARTING_SECONDS = 60.0  # how long a fresh or handed over folder without a live process is believed to be starting
Event = dict[str, Any]


class Operation:
    """The writing side, held by the operation's own process for as long as it lives.

    Used as a context manager: enters by taking the lock and continuing the sequence, leaves by releasing it.
    Raises `filelock.Timeout` when another process already runs this folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FileLock(folder / LOCK)
        self._sequence = 0
        self._stream: IO[str] | None = None
        self._resumed = (folder / REQUESTS / RESUMED).exists()

    def __enter__(self) -> Operation:
        self._lock.acquire(timeout=LOCK_SECONDS)  # a reader that asks "alive?" holds it for an instant
        path = self.folder / EVENTS
        torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
        self._sequence = max((event["seq"] for event in read_events(self.folder)), default=0)
        self._stream = path.open("a", encoding="utf-8")
        if torn:
            self._stream.write("\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream:
            self._stream.close()
        self._lock.release()

    def emit(self, type: EventType, **fields: Any) -> Event:
        """Append one event and hand it to the system at once."""
        assert self._stream, "an operation reports only while it holds its folder"
        self._sequence += 1
        event = {"protocol": PROTOCOL, "type": type, "seq": self._sequence, "time": round(time.time(), 3), **fields}
        self._stream.write(json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n")
        self._stream.flush()
        if type in FINAL:
            os.fsync(self._stream.fileno())
        if self._resumed:
            (self.folder / REQUESTS / RESUMED).unlink(missing_ok=True)
            self._resumed = False
        return event

    def requested(self, request: Request) -> bool:
        """Whether somebody asked for this since the operation was created."""
        return (self.folder / REQUESTS / request).exists()


def create(folder: Path, record: dict[str, Any]) -> None:
    """Make the folder of an operation that has not started; `record` says what it is and never changes."""
    (folder / REQUESTS).mkdir(parents=True, exist_ok=True)
    text = json.dumps({"protocol": PROTOCOL, "created": round(time.time(), 3), **record}, indent=1)
    partial = folder / (RECORD + ".part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, folder / RECORD)


def ask(folder: Path, request: Request) -> None:
    """Leave a request; the operation sees it at its next step, now or when it runs again."""
    (folder / REQUESTS).mkdir(exist_ok=True)
    (folder / REQUESTS / request).touch()


def resume(folder: Path) -> None:
    """Take back the requests that ended an operation; until its next process reports, it counts as starting."""
    for request in ("stop", "pause"):
        (folder / REQUESTS / request).unlink(missing_ok=True)
    (folder / REQUESTS).mkdir(exist_ok=True)
    (folder / REQUESTS / RESUMED).touch()


def not_resumed(folder: Path) -> None:
    """Take a resumption back whose process could not be started."""
    (folder / REQUESTS / RESUMED).unlink(missing_ok=True)


def being_resumed(folder: Path) -> bool:
    """Whether somebody has asked an ended operation to go on, and its process has not reported yet."""
    return (folder / REQUESTS / RESUMED).exists()


def read_record(folder: Path) -> dict[str, Any]:
    """What the operation was created with; raises OSError or ValueError where the file was edited into something else."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    if not isinstance(record, dict) or not isinstance(record.get("created"), int | float):
        raise ValueError(f"{folder / RECORD} is no operation's record")
    if not all(isinstance(record.get(name), str) for name in ("id", "kind", "title")):
        raise ValueError(f"{folder / RECORD} does not say what the operation is")
    return record


@dataclass
class Tail:
    """Reads a growing `events.jsonl` from where it last stopped; a torn last line waits for its rest."""

    folder: Path
    offset: int = 0

    def read(self) -> Iterator[Event]:
        """The whole events that have appeared since the last call."""
        try:
            with (self.folder / EVENTS).open("rb") as stream:
                stream.seek(self.offset)
                data = stream.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in whole.splitlines():
            with suppress(ValueError):  # a line torn by a full disk or a kill, then continued by a restart
                event = json.loads(line)
                if isinstance(event, dict) and "type" in event:
                    yield event

    def behind(self) -> bool:
        """Whether something was written that has not been read."""
        try:
            return (self.folder / EVENTS).stat().st_size > self.offset
        except FileNotFoundError:
            return False


def read_events(folder: Path) -> list[Event]:
    """All whole events of an operation, oldest first."""
    return list(Tail(folder).read())


def alive(folder: Path) -> bool:
    """Whether a process holds the operation's lock right now."""
    if not (folder / LOCK).exists():
        return False
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def state(folder: Path, last: Event | None) -> State:
    """The state of an operation whose newest event is `last` (None before its first)."""
    ended: State = "crashed"
    if last is not None and last["type"] in FINAL:
        ended = last["type"]
    elif alive(folder):
        return "running"
    # A clock that was set back in between makes it one of the future, which starts nothing.
    return "starting" if abs(time.time() - _let_go(folder, last)) < STARTING_SECONDS else ended


def _let_go(folder: Path, last: Event | None) -> float:
    """When somebody left the folder for a process to take that has not reported yet; 0 when nobody did."""
    if last is None:
        return (folder / RECORD).stat().st_mtime
    if last.get("phase") == HANDOVER:
        return float(last["time"])
    with suppress(OSError):
        return (folder / REQUESTS / RESUMED).stat().st_mtime
    return 0.0

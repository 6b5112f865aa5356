"""Writes that survive a kill and a power cut."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import fcntl


def replace_text(file: Path, text: str) -> None:
    """Replace a file in one step: a reader sees the old text or the new, also after a power cut.

    An OSError means that the old one is still there.
    """
    names = _opened(file.parent)  # before, for once the file is replaced nothing may fail
    try:
        _replace(file, text)
        with suppress(OSError):  # then a power cut decides which of the two stays
            _sync(names)
    finally:
        _close(names)


def _replace(file: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            _hold(handle)
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
            if os.name == "posix":
                os.replace(temporary, file)  # while it is held, so that nobody takes it for abandoned
        if os.name != "posix":
            os.replace(temporary, file)  # Windows renames only what is closed
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _hold(handle: int) -> None:
    if sys.platform != "win32":
        with suppress(OSError):  # a network disk without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def abandoned(folders: Iterable[Path]) -> Iterator[Path]:
    """What `replace_text` began in these folders and nobody will finish, because its writer was killed."""
    for folder in folders:
        for file in listed(folder, ".*-????????"):
            if file.is_file() and not _held(file):
                yield file


def listed(folder: Path, pattern: str) -> list[Path]:
    """What a folder holds of that pattern; nothing where it cannot be listed now."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _held(file: Path) -> bool:
    if sys.platform == "win32":
        return False  # it cannot be removed there while it is open
    try:
        with file.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def replace_json(file: Path, value: Any) -> None:
    """Replace a JSON file in one step."""
    replace_text(file, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(file: Path) -> Any:
    """The value of a JSON file; raises OSError or ValueError."""
    return parse_json(file.read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """The value of a JSON text; raises ValueError, also for one that is nested without end."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def append_line(file: Path, line: str) -> None:
    """Append one line; it starts on its own line also after one that a crash cut off."""
    with file.open("ab+") as out:
        if out.tell():
            out.seek(-1, os.SEEK_END)
            if out.read(1) != b"\n":
                out.write(b"\n")
        out.write(line.encode() + b"\n")
        out.flush()
        os.fsync(out.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; Windows has no such call and keeps them in its journal."""
    names = _opened(folder)
    try:
        _sync(names)
    finally:
        _close(names)


def _opened(folder: Path) -> int | None:
    return os.open(folder, os.O_RDONLY) if os.name == "posix" else None


def _sync(names: int | None) -> None:
    if names is not None:
        os.fsync(names)


def _close(names: int | None) -> None:
    if names is not None:
        os.close(names)


def sync_tree(folder: Path) -> None:
    """Make everything below a folder durable, so that a switch to it cannot outlive its content."""
    if sys.platform == "linux":
        # One call for the file system is many times faster than one for each of 20,000 files.
        handle = os.open(folder, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(handle) == 0:
                return
        finally:
            os.close(handle)
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync_file(Path(parent) / name)
        sync_folder(Path(parent))


def _sync_file(file: Path) -> None:
    if file.is_symlink():
        return
    # Windows flushes only what is open for writing.
    handle = os.open(file, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

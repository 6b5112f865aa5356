"""The folder that holds everything: what lies in it, moving it, and taking Fettle off this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from app.errors import AppError
from app.operations import Operations
from app.outside import made_by_installers
from app.paths import LOCK, Home, location_file, note_location
from env_manager import durable
from env_manager.errors import from_os
from env_manager.keeping.disk_use import inodes, total
from env_manager.keeping.relocate import relocate

# Everything that Fettle makes in its folder; an uninstall touches nothing else that may lie there.
PARTS = {
    "envs": "environments",
    "cache": "package cache, and rows kept as tokens",
    "wheels": "large wheels",
    "python": "interpreters",
    "runs": "runs and their adapters",
    "installs": "records of installations",
    "trainers": "the trainer's code as runs used it",
    "models": "models",
    "window": "the window's settings",
}
FILES = ("app.log", "worker.log", LOCK)
_RESERVE_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class Part:
    """A part of the home folder; a file that several parts link to counts in the first of them."""

    name: str
    title: str
    bytes: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def parts(home: Home) -> list[Part]:
    """What lies in the home folder and what it takes on the disk."""
    seen: set[tuple[int, int]] = set()
    found: list[Part] = []
    for name, title in PARTS.items():
        here = inodes(home.root / name)
        found.append(Part(name, title, total(file for id, file in here.items() if id not in seen)))
        seen |= here.keys()
    return [part for part in found if (home.root / part.name).exists()]


@contextmanager
def nothing_running(operations: Operations, doing: str) -> Iterator[None]:
    """Hold every lock of the home folder; raises `AppError` while a window, an installation or a run needs it."""
    with ExitStack() as stack:
        busy = next((each for each in operations.refresh() if not each.ended), None)
        if busy:
            raise AppError(
                "home-busy",
                f"Fettle's folder cannot be {doing}: {busy.record['title']} is running.",
                "Wait for it, or stop it, then try again.",
            )
        lock = FileLock(operations.home.root / LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise AppError(
                "home-busy", f"Fettle's folder cannot be {doing}: its window or server is open.", "Close it first."
            ) from error
        stack.callback(lock.release)
        stack.enter_context(operations.store.install_lock())
        yield


def move(operations: Operations, target: Path, tell: Callable[[str], None] = lambda line: None) -> Path:
    """Move everything into `target` and use it from now on; returns the new folder.

    On one disk this is one rename. To another disk everything is copied, links kept, before the old
    folder goes: a kill at any moment leaves one whole folder that the next start finds.
    """
    old = operations.home.root
    target = Path(os.path.abspath(target.expanduser()))
    _refuse_by_environment()
    _check_target(old, target)
    with nothing_running(operations, "moved"):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                target.rmdir()
            if _same_disk(target.parent, old):
                tell("Moving it on the same disk")
                note_location(target, old)
                old.rename(target)
                relocate(target, old)
            else:
                _copy_over(old, target, tell)
            note_location(target)
        except OSError as error:
            raise from_os(error, f"move its folder to {target}") from error
    if old.exists() and old != target:
        tell("Removing the old folder")
        shutil.rmtree(old, ignore_errors=True)
    return target


def _refuse_by_environment() -> None:
    if os.environ.get("FETTLE_HOME"):
        raise AppError(
            "home-by-variable",
            "The folder is named by the variable FETTLE_HOME, which a program cannot change for you.",
            "Unset it to let Fettle remember the new place, or move the folder yourself and set the variable to it.",
        )


def _check_target(old: Path, target: Path) -> None:
    reason = None
    if target == old:
        reason = "it is there already"
    elif target.is_relative_to(old) or old.is_relative_to(target):
        reason = "one of the two folders lies in the other"
    elif target.exists() and (not target.is_dir() or any(target.iterdir())):
        reason = f"{target} holds something already"
    if reason:
        raise AppError("home-target", f"The folder cannot be moved there: {reason}.", "Name a new or empty folder.")


def _same_disk(one: Path, two: Path) -> bool:
    return os.stat(one).st_dev == os.stat(two).st_dev


def _copy_over(old: Path, target: Path, tell: Callable[[str], None]) -> None:
    files = inodes(old)
    needed, free = total(files.values()) + _RESERVE_BYTES, shutil.disk_usage(target.parent).free
    if free < needed:
        raise AppError(
            "disk-full",
            f"Moving needs {needed / 1e9:.1f} GB in {target.parent}, where {free / 1e9:.1f} GB are free.",
            "Free some space there, or name another disk.",
        )
    tell(f"Copying {total(files.values()) / 1e9:.1f} GB to another disk")
    partial = target.with_name(f".{target.name}.moving")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        copy_tree(old, partial)
        durable.sync_tree(partial)
        partial.rename(target)
        relocate(target, old)
        durable.sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def copy_tree(old: Path, new: Path) -> None:
    """Copy a folder so that files which were one file stay one: names, times, rights and links are kept."""
    copied: dict[tuple[int, int], str] = {}
    new.mkdir()
    waiting = [(os.fspath(old), os.fspath(new))]
    while waiting:
        source, target = waiting.pop()
        with os.scandir(source) as entries:
            for entry in entries:
                place = os.path.join(target, entry.name)
                if entry.is_symlink():
                    os.symlink(os.readlink(entry.path), place)
                elif entry.is_dir():
                    os.mkdir(place)
                    waiting.append((entry.path, place))
                else:
                    _copy_file(entry.path, place, copied)


def _copy_file(source: str, target: str, copied: dict[tuple[int, int], str]) -> None:
    stat = os.stat(source)
    id = (stat.st_dev, stat.st_ino)
    if id in copied:
        os.link(copied[id], target)
        return
    shutil.copy2(source, target)
    if stat.st_nlink > 1:
        copied[id] = target


def to_remove(home: Home, *, keep_runs: bool) -> list[Path]:
    """What an uninstall would delete: parts and files of ours in the home folder, the note of where it lies, the menu's entry."""
    kept = {"runs"} if keep_runs else set()
    found = [home.root / name for name in (*PARTS, *FILES) if name not in kept]
    found += [location_file(), *made_by_installers()]
    return [path for path in found if path.exists() or path.is_symlink()]


def uninstall(operations: Operations, *, keep_runs: bool) -> list[Path]:
    """Delete everything that `to_remove` lists; returns what is left in the home folder, which is not ours."""
    root = operations.home.root
    with nothing_running(operations, "removed"):
        doomed = to_remove(operations.home, keep_runs=keep_runs)
    try:
        for path in doomed:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if not any(root.iterdir()):
            root.resolve().rmdir()
            if root.is_symlink():
                root.unlink()
            return []
    except OSError as error:
        raise from_os(error, "remove all of its folder") from error
    return sorted(root.iterdir())

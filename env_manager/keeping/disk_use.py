"""What folders really take on the disk: a file that several names link to counts once."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

FileId = tuple[int, int]


@dataclass(frozen=True)
class Inode:
    """One file on the disk: its bytes there, all names it has, and how many of them were met."""

    bytes: int
    links: int
    met: int = 1


def inodes(*folders: Path) -> dict[FileId, Inode]:
    """Every file and folder below the folders, themselves included, by device and inode.

    What vanishes meanwhile is passed over. A folder takes room too, and has one name.
    """
    found: dict[FileId, Inode] = {}
    for path in _paths(folders):
        try:
            # Of the path and not of the listing, which on Windows tells neither inode nor links.
            status = os.stat(path, follow_symlinks=False)
        except OSError:
            continue
        id = (status.st_dev, status.st_ino)
        before = found.get(id)
        links = 1 if stat.S_ISDIR(status.st_mode) else status.st_nlink
        found[id] = Inode(_bytes(status), links, before.met + 1 if before else 1)
    return found


def total(found: Iterable[Inode]) -> int:
    """The bytes of these files together."""
    return sum(each.bytes for each in found)


def freed(found: Iterable[Inode]) -> int:
    """The bytes that come free when every name that was met goes: files with no name elsewhere."""
    return sum(each.bytes for each in found if each.met >= each.links)


def _bytes(status: os.stat_result) -> int:
    # st_blocks counts units of 512 bytes on every system that has it.
    blocks: int | None = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else blocks * 512


def _paths(folders: Iterable[Path]) -> Iterator[str]:
    waiting = [os.fspath(folder) for folder in folders]
    while waiting:
        folder = waiting.pop()
        yield folder
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        yield entry.path
        except OSError:
            # A folder that is gone or closed to us takes nothing that could be told.
            continue

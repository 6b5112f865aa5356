"""What folders really take on the disk: a file that several names link to counts once."""

from __future__ import annotations

import os
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
    """Every file below the folders by device and inode; what vanishes meanwhile is passed over."""
    found: dict[FileId, Inode] = {}
    for entry in _files(folders):
        try:
            stat = entry.stat(follow_symlinks=False)
            if os.name == "nt":
                # On Windows a listing tells neither inode nor links.
                stat = os.stat(entry.path, follow_symlinks=False)
        except OSError:
            continue
        id = (stat.st_dev, stat.st_ino)
        before = found.get(id)
        found[id] = Inode(_bytes(stat), stat.st_nlink, before.met + 1 if before else 1)
    return found


def total(found: Iterable[Inode]) -> int:
    """The bytes of these files together."""
    return sum(each.bytes for each in found)


def freed(found: Iterable[Inode]) -> int:
    """The bytes that come free when every name that was met goes: files with no name elsewhere."""
    return sum(each.bytes for each in found if each.met >= each.links)


def _bytes(stat: os.stat_result) -> int:
    # st_blocks counts units of 512 bytes on every system that has it.
    blocks: int | None = getattr(stat, "st_blocks", None)
    return stat.st_size if blocks is None else blocks * 512


def _files(folders: Iterable[Path]) -> Iterator[os.DirEntry[str]]:
    waiting = [os.fspath(folder) for folder in folders]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        yield entry
        except OSError:
            # A folder that is gone or closed to us takes nothing that could be told.
            continue

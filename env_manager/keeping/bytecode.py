"""Shares compiled bytecode between generations as their packages are shared: by hard link.

Python compiles what it imports: 100 MB and more in each environment, and seconds of each first
import. A compiled file fits every environment in which its source is the very same file, because
it is checked against the source's size and time, and the path in it is set anew on loading.
Python replaces compiled files and never writes into one, so a link cannot be written through.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from env_manager.proving.verify import site_packages

_FOLDER = "__pycache__"


@dataclass(frozen=True)
class _Donor:
    site: Path
    proved_at: int  # in nanoseconds


class SharedBytecode:
    """Links bytecode from older environments into a new one, package by package as they arrive."""

    def __init__(self, env: Path, donors: Sequence[tuple[Path, Path]]) -> None:
        """`donors` are environments with their records: what was compiled later was not proved and may be torn."""
        self.site = site_packages(env)
        self.donors = [_Donor(site_packages(donor), _written(record)) for donor, record in donors]
        self.linked = 0
        self._seen: set[str] = set()

    def share(self) -> int:
        """Link what is there for packages that have come since the last call; returns the number of files so far."""
        for name in _names(self.site) - self._seen:
            self._seen.add(name)
            folder = self.site / name
            if folder.is_dir() and not name.endswith(".dist-info"):
                for donor in self.donors:
                    self._share_folder(os.fspath(folder), os.fspath(donor.site / name), donor.proved_at)
        return self.linked

    def _share_folder(self, folder: str, donor: str, proved_at: int) -> None:
        waiting = [(folder, donor)]
        while waiting:
            here, there = waiting.pop()
            if not os.path.isdir(there):
                continue
            with os.scandir(here) as entries:
                below = [
                    entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and entry.name != _FOLDER
                ]
            waiting += [(os.path.join(here, name), os.path.join(there, name)) for name in below]
            self._link_all(here, there, proved_at)

    def _link_all(self, here: str, there: str, proved_at: int) -> None:
        compiled = sorted(name for name in _names(Path(there, _FOLDER)) if name.endswith(".pyc"))
        fitting = [name for name in compiled if _same_source(here, there, name.split(".")[0] + ".py")]
        for name in fitting:
            if _written(os.path.join(there, _FOLDER, name)) > proved_at:
                continue
            target = os.path.join(here, _FOLDER, name)
            try:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                if not os.path.exists(target):
                    os.link(os.path.join(there, _FOLDER, name), target)
                    self.linked += 1
            except OSError:
                # No links on this disk, or too many: Python compiles the module itself.
                return


def _written(file: str | Path) -> int:
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return 0


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _same_source(here: str, there: str, name: str) -> bool:
    try:
        one, two = os.stat(os.path.join(here, name)), os.stat(os.path.join(there, name))
    except OSError:
        return False
    return (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino)

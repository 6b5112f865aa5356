"""File-level proof of an environment: what is missing, truncated or altered in size.

At build time the wheels' own RECORDs are read; then our own record of every file and its size is
taken, because some wheels carry a wrong RECORD or none.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RECORD_NAME = "files.tsv"


@dataclass(frozen=True)
class Damage:
    """One file that is not as recorded; sizes are None where the file is missing or the size unknown."""

    path: str
    expected: int | None
    found: int | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.path} is missing"
        return f"{self.path} has {self.found} bytes instead of {self.expected}"


def site_packages(env: Path) -> Path:
    """The folder with the packages of a virtual environment."""
    if os.name == "nt":
        return env / "Lib" / "site-packages"
    return next(iter(sorted((env / "lib").glob("python3.*/site-packages"))), env / "lib" / "site-packages")


def installed(env: Path) -> dict[str, str]:
    """Name and version of each package in the environment, from its metadata folders."""
    found: dict[str, str] = {}
    for info in sorted(site_packages(env).glob("*.dist-info")):
        name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        found[_normal(name)] = version
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def package_bytes(env: Path, names: Collection[str]) -> int:
    """Bytes on disk of the files that the RECORDs of these packages name."""
    site = site_packages(env)
    total = 0
    for info in sorted(site.glob("*.dist-info")):
        if _normal(info.name.removesuffix(".dist-info").rpartition("-")[0]) in names:
            for path, _ in _record_rows(info / "RECORD"):
                total += (site / path).stat().st_size
    return total


def against_records(env: Path) -> list[Damage]:
    """Every file that a package's RECORD names and that is missing or of another size."""
    site = site_packages(env)
    damage: list[Damage] = []
    for info in sorted(site.glob("*.dist-info")):
        record = info / "RECORD"
        if not record.is_file():
            damage.append(Damage(f"{info.name}/RECORD", None, None))
            continue
        damage += _compare(site, _record_rows(record))
    return damage


def _record_rows(record: Path) -> Iterator[tuple[str, int | None]]:
    with record.open(encoding="utf-8", newline="") as rows:
        for row in csv.reader(rows):
            # Bytecode may be listed and is written anew by every interpreter.
            if row and not row[0].endswith(".pyc"):
                yield row[0], int(row[2]) if len(row) > 2 and row[2].isdigit() else None


def _compare(folder: Path, rows: Iterator[tuple[str, int | None]]) -> list[Damage]:
    damage: list[Damage] = []
    start = os.fspath(folder)
    for path, expected in rows:
        try:
            found = os.stat(f"{start}{os.sep}{path}").st_size
        except OSError:
            damage.append(Damage(path, expected, None))
            continue
        if expected is not None and found != expected:
            damage.append(Damage(path, expected, found))
    return damage


def take_record(env: Path, file: Path) -> int:
    """Write the size and path of every file of the environment to `file`; returns the bytes they have."""
    total = 0
    lines: list[str] = []
    for path, size in sorted(_files(env, "")):
        total += size
        lines.append(f"{size}\t{path}\n")
    file.write_text("".join(lines), encoding="utf-8")
    return total


def _files(folder: Path | str, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    yield from _files(entry.path, f"{prefix}{entry.name}/")
            elif not entry.is_symlink():
                yield prefix + entry.name, entry.stat().st_size


def against_own_record(env: Path, file: Path) -> list[Damage]:
    """Every recorded file that is missing or of another size now."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return [Damage(file.name, None, None)]
    rows = (line.partition("\t") for line in lines)
    return _compare(env, ((path, int(size)) for size, _, path in rows))

"""What the packages of an environment say about themselves: versions, files, who owns which.

At build time the wheels' own RECORDs are compared with what lies there; from then on our own record
of every file counts (`file_record`).
"""

from __future__ import annotations

import csv
import os
import posixpath
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from env_manager.proving.file_record import RECORD_NAME, Damage, against_own_record, compare_sizes, take_record

__all__ = [
    "RECORD_NAME",
    "Damage",
    "against_own_record",
    "against_records",
    "installed",
    "owners",
    "package_bytes",
    "record_rows",
    "site_packages",
    "take_record",
]


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
        rows = list(_record_rows(record)) if record.is_file() else []
        # One that names nothing, not even itself, was cut short.
        damage += compare_sizes(site, rows) if rows else [Damage(f"{info.name}/RECORD", None, None)]
    return damage


def _record_rows(record: Path) -> Iterator[tuple[str, int | None]]:
    with record.open(encoding="utf-8", newline="") as rows:
        for row in csv.reader(rows):
            # Bytecode may be listed and is written anew by every interpreter.
            if row and not row[0].endswith(".pyc"):
                yield row[0], int(row[2]) if len(row) > 2 and row[2].isdigit() else None


def owners(env: Path, paths: Collection[str]) -> dict[str, str]:
    """The package that each of these files, given below `env`, belongs to; what nobody owns is left out."""
    site = site_packages(env)
    prefix = site.relative_to(env).as_posix() + "/"
    wanted = {path.removeprefix(prefix): path for path in paths}
    found: dict[str, str] = {}
    tops: dict[str, str] = {}
    for info in sorted(site.glob("*.dist-info")):
        name = _normal(info.name.removesuffix(".dist-info").rpartition("-")[0])
        for row, _ in record_rows(info / "RECORD"):
            # Launchers stand as "../../../bin/NAME".
            path = posixpath.normpath(prefix + row) if row.startswith("..") else row
            if path == row:
                tops.setdefault(path.split("/")[0], name)
            if path in wanted:
                found[wanted[path]] = name
    for inner, path in wanted.items():
        # A RECORD that is lost or wrong does not name the file: its folder still does.
        top = inner.split("/")[0]
        if path not in found and top.endswith(".dist-info"):
            found[path] = _normal(top.removesuffix(".dist-info").rpartition("-")[0])
        elif path not in found and path.startswith(prefix) and top in tops and "/" in inner:
            found[path] = tops[top]
    return found


def record_rows(record: Path) -> list[tuple[str, int | None]]:
    """Path and size of each file that a RECORD names; nothing where it cannot be read."""
    try:
        return list(_record_rows(record))
    except (OSError, ValueError, csv.Error):
        return []

"""Our own record of an environment: size, SHA-256 and path of every file, taken when it was proved.

The wheels' RECORDs do not do: some are wrong, some are missing, and launchers and settings are in none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RECORD_NAME = "files.tsv"
_HEADER = "# size\tsha256\tpath\n"
_BLOCK_BYTES = 1024**2
# Files are handed to threads in lots: one at a time would cost more than hashing the small ones.
_LOT_FILES = 128
_LOT_BYTES = 16 * 1024**2
_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))

FileId = tuple[int, int]


@dataclass(frozen=True)
class Recorded:
    """One file as it was; `sha256` is None in records from before hashes were taken."""

    path: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class Damage:
    """One file that is not as recorded: missing (`found` None), of another size, or altered in content."""

    path: str
    expected: int | None
    found: int | None
    altered: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.path} is missing"
        if self.altered:
            return f"{self.path} has its size but another content"
        return f"{self.path} has {self.found} bytes instead of {self.expected}"


def take_record(env: Path, file: Path, relatives: Iterable[tuple[Path, Path]] = ()) -> int:
    """Write the record of every file of the environment to `file`; returns the bytes they have.

    `relatives` are older environments with their records: a file that is linked into one of them
    is not read again.
    """
    found = sorted(_files(env, ""))
    hashes: dict[str, str] = {}
    for other, record in relatives:
        hashes |= _recorded_hashes([each for each in found if each[0] not in hashes], other, record)
    hashes |= hash_files(env, ((path, size) for path, size, _ in found if path not in hashes))
    rows = (f"{size}\t{hashes[path]}\t{_escaped(path)}\n" for path, size, _ in found)
    with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as out:
        out.write(_HEADER)
        out.writelines(rows)
    return sum(size for _, size, _ in found)


def _recorded_hashes(files: Iterable[tuple[str, int, FileId]], other: Path, record: Path) -> dict[str, str]:
    """Hashes of those files that are the very same file in another environment, from its record.

    The hash is what was recorded, not what the file holds now: whoever links a file that was altered
    since gets the right hash, against which the alteration shows.
    """
    try:
        rows = {row.path: row for row in read_record(record)}
    except (OSError, ValueError):
        return {}  # a damaged record of another environment only costs the time to hash again
    start = os.fspath(other) + os.sep
    found: dict[str, str] = {}
    for path, size, id in files:
        row = rows.get(path)
        if row and row.sha256 and row.size == size and _id_of(start + path) == id:
            found[path] = row.sha256
    return found


def altered_since(env: Path, other: Path, record: Path) -> list[str]:
    """Files of an environment that another one shares and that were written after that one was recorded."""
    try:
        recorded = record.stat().st_mtime_ns
    except OSError:
        return []
    start, there = os.fspath(env) + os.sep, os.fspath(other) + os.sep
    later = (path for path, _, _ in _files(env, "") if os.stat(start + path).st_mtime_ns > recorded)
    return [path for path in later if _id_of(there + path) == _id_of(start + path)]


def _id_of(path: str) -> FileId | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def read_record(file: Path) -> list[Recorded]:
    """The rows of a record, also of one without hashes; raises OSError or ValueError."""
    return [Recorded(*row) for row in _rows(file)]


def _rows(file: Path) -> Iterator[tuple[str, int, str | None]]:
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as rows:
        lines = rows.read().split("\n")
    hashed = bool(lines) and lines[0] + "\n" == _HEADER
    for line in lines[1:] if hashed else lines:
        if line and hashed:
            size, sha256, path = line.split("\t", 2)
            yield _plain(path) if "\\" in path else path, int(size), sha256
        elif line:
            size, path = line.split("\t", 1)
            yield path, int(size), None


def against_own_record(env: Path, file: Path) -> list[Damage]:
    """Every recorded file that is missing or of another size now; nothing is read but the record."""
    try:
        # Before each run, so without an object a row: they take as long as looking at the files.
        return compare_sizes(env, ((path, size) for path, size, _ in _rows(file)))
    except (OSError, ValueError):
        return [Damage(file.name, None, None)]


def against_own_hashes(
    env: Path, file: Path, cancelled: Callable[[], bool] = lambda: False
) -> tuple[list[Damage], int]:
    """Every recorded file that is missing, resized or altered, and the number that could not be compared."""
    try:
        rows = read_record(file)
    except (OSError, ValueError):
        return [Damage(file.name, None, None)], 0
    damage = compare_sizes(env, ((row.path, row.size) for row in rows))
    seen = {each.path for each in damage}
    left = [row for row in rows if row.sha256 and row.path not in seen]
    found = hash_files(env, ((row.path, row.size) for row in left), cancelled)
    damage += [
        Damage(row.path, row.size, row.size, altered=True)
        for row in left
        if row.path in found and found[row.path] != row.sha256
    ]
    return damage, sum(row.sha256 is None for row in rows)


def compare_sizes(folder: Path, rows: Iterable[tuple[str, int | None]]) -> list[Damage]:
    """The files below `folder` that are missing or have another size; a size of None always fits."""
    damage: list[Damage] = []
    start = os.fspath(folder) + os.sep
    for path, expected in rows:
        try:
            found = os.stat(start + path).st_size
        except OSError:
            damage.append(Damage(path, expected, None))
            continue
        if expected is not None and found != expected:
            damage.append(Damage(path, expected, found))
    return damage


def hash_files(
    folder: Path, files: Iterable[tuple[str, int]], cancelled: Callable[[], bool] = lambda: False
) -> dict[str, str]:
    """SHA-256 of files given with their sizes, on all cores; an unreadable one gets its error as its hash."""
    start = os.fspath(folder) + os.sep
    found: dict[str, str] = {}

    def hash_lot(lot: list[str]) -> list[tuple[str, str]]:
        return [] if cancelled() else [(path, _hash_or_error(start + path)) for path in lot]

    # Two threads a core, because some wait for the disk while others compute.
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        for pairs in pool.map(hash_lot, _lots(files)):
            found.update(pairs)
    return found


def hash_file(path: str | Path) -> str:
    """SHA-256 of one file."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as data:
        while block := data.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _hash_or_error(path: str) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        # A sector that cannot be read is an altered file, not a failure of the check.
        return f"unreadable: {error.strerror}"


def _lots(files: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    lot: list[str] = []
    room = _LOT_BYTES
    # The largest first, or the last thread would work on it alone.
    for path, size in sorted(files, key=lambda each: -each[1]):
        lot.append(path)
        room -= size
        if room <= 0 or len(lot) == _LOT_FILES:
            yield lot
            lot, room = [], _LOT_BYTES
    if lot:
        yield lot


def _files(folder: Path | str, prefix: str) -> Iterator[tuple[str, int, FileId]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    yield from _files(entry.path, f"{prefix}{entry.name}/")
            elif not entry.is_symlink():
                # Not entry.stat(): on Windows it knows neither device nor inode.
                status = os.stat(entry.path)
                yield prefix + entry.name, status.st_size, (status.st_dev, status.st_ino)


def unrecorded(env: Path, file: Path) -> list[str]:
    """Files that are in the environment now and were not when it was recorded; bytecode does not count."""
    try:
        known = {row.path for row in read_record(file)}
    except (OSError, ValueError):
        return []
    return sorted(path for path, _, _ in _files(env, "") if path not in known and not path.endswith(".pyc"))


def _escaped(path: str) -> str:
    for plain, written in _ESCAPES:
        path = path.replace(plain, written)
    return path


def _plain(path: str) -> str:
    decoded = {"t": "\t", "n": "\n", "r": "\r"}
    letters = iter(path)
    return "".join(decoded.get(each := next(letters, ""), each) if letter == "\\" else letter for letter in letters)

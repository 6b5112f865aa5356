"""What is damaged in a generation, which packages that is, and where else the same files are in use.

Generations and the package cache share files by hard links: one altered file is altered everywhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from env_manager.generations import Generation, Store
from env_manager.proving import verify
from env_manager.proving.damage import forget_damage, note_damage
from env_manager.proving.file_record import (
    RECORD_NAME,
    Damage,
    Recorded,
    against_own_hashes,
    against_own_record,
    compare_sizes,
    hash_files,
    read_record,
)
from env_manager.uv import Uv


@dataclass(frozen=True)
class DamagedFile:
    """One damaged file with its package, the other generations that have the same file, and whether the cache has."""

    damage: Damage
    package: str | None
    generations: tuple[str, ...] = ()
    in_cache: bool = False

    def as_json(self) -> dict[str, Any]:
        return self.damage.as_json() | {
            "package": self.package,
            "generations": list(self.generations),
            "in_cache": self.in_cache,
        }

    def __str__(self) -> str:
        places = [f"environment {id}" for id in self.generations] + ["the package cache"] * self.in_cache
        owner = f" ({self.package})" if self.package else ""
        return f"{self.damage}{owner}" + (f"; the same file is in {', '.join(places)}" if places else "")


@dataclass(frozen=True)
class Integrity:
    """The state of a generation's files. `unhashed` counts those of which no hash was recorded."""

    generation: str
    full: bool
    files: tuple[DamagedFile, ...]
    unhashed: int = 0
    damaged_in_cache: tuple[str, ...] = field(default=())

    @property
    def sound(self) -> bool:
        return not self.files

    @property
    def packages(self) -> tuple[str, ...]:
        return tuple(sorted({each.package for each in self.files if each.package}))

    def as_json(self) -> dict[str, Any]:
        return {
            "generation": self.generation,
            "full": self.full,
            "sound": self.sound,
            "files": [each.as_json() for each in self.files],
            "packages": list(self.packages),
            "unhashed": self.unhashed,
            "damaged_in_cache": list(self.damaged_in_cache),
        }


def examine(
    store: Store, generation: Generation, *, full: bool, cancelled: Callable[[], bool] = lambda: False
) -> Integrity:
    """Compare a generation with its own record: presence and sizes, with `full` the content too."""
    record = generation.folder / RECORD_NAME
    unhashed = 0
    if full:
        damage, unhashed = against_own_hashes(generation.env, record, cancelled)
    else:
        damage = against_own_record(generation.env, record)
    if not damage:
        return Integrity(generation.id, full, (), unhashed)
    owners = verify.owners(generation.env, [each.path for each in damage])
    others = [each for each in store.list() if each.id != generation.id]
    archives = list(_archives(store_cache(store)))
    files = tuple(
        DamagedFile(
            each,
            owners.get(each.path),
            tuple(other.id for other in others if _same_file(generation.env / each.path, other.env / each.path)),
            any(_same_file(generation.env / each.path, archive / _inner(each.path)) for archive in archives),
        )
        for each in damage
    )
    suspects = {each.package for each in files if each.package}
    return Integrity(generation.id, full, files, unhashed, tuple(sorted(_damaged(archives, generation, suspects))))


def remember_damage(store: Store, found: Integrity) -> None:
    """Keep what was found, for every generation that has the files; a full look without findings clears it."""
    if found.sound:
        if found.full:
            forget_damage(store.envs / found.generation)
        return
    more = f" and {len(found.files) - 1} more" if len(found.files) > 1 else ""
    for id in {found.generation, *(id for file in found.files for id in file.generations)}:
        note_damage(store.envs / id, f"{found.files[0].damage}{more}.")


def store_cache(store: Store) -> Path:
    """The package cache in use, which may be the user's own."""
    return Uv.create(store.cache, lambda line: None, lambda: False).cache


def _inner(path: str) -> str:
    """A path below the environment as it stands in a wheel."""
    return re.sub(r"^(lib/python3\.\d+|Lib)/site-packages/", "", path)


def _same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _archives(cache: Path) -> Iterator[Path]:
    """The unpacked wheels of uv's cache; a cache laid out in another way has none that we know."""
    for parent in cache.glob("archive-v*"):
        yield from (archive for archive in parent.iterdir() if archive.is_dir())


def _damaged(archives: list[Path], generation: Generation, packages: set[str]) -> set[str]:
    """Of these packages the ones whose unpacked wheel in the cache is not as the generation recorded it."""
    try:
        rows = {_inner(row.path): row for row in read_record(generation.folder / RECORD_NAME)}
    except (OSError, ValueError):
        return set()
    found: set[str] = set()
    for archive in archives:
        infos = {info.name: _name(info) for info in archive.glob("*.dist-info")}
        # Other versions of a package may lie in the cache too: they are not this generation's.
        mine = {name for folder, name in infos.items() if name in packages and f"{folder}/METADATA" in rows}
        if mine and _altered(archive, rows):
            found |= mine
    return found


def _name(info: Path) -> str:
    return re.sub(r"[-_.]+", "-", info.name.removesuffix(".dist-info").rpartition("-")[0]).lower()


def _altered(archive: Path, rows: Mapping[str, Recorded]) -> bool:
    """Whether a file of an unpacked wheel is gone or differs from what the generation recorded of it."""
    named = {path for info in archive.glob("*.dist-info") for path, _ in verify.record_rows(info / "RECORD")}
    # The installer completes RECORD, so that this one differs by right.
    common = [rows[path] for path in sorted(named) if path in rows and not path.endswith(".dist-info/RECORD")]
    if not common or compare_sizes(archive, ((_inner(row.path), row.size) for row in common)):
        return True
    hashes = hash_files(archive, ((_inner(row.path), row.size) for row in common))
    return any(row.sha256 not in (None, hashes[_inner(row.path)]) for row in common)

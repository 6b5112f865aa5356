"""Where the gigabytes are, and which of them can go: the Environment page's record of the disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from app.api.schema_generations import DiskPart, DiskView
from app.home import parts
from app.operations import Operations
from env_manager.keeping import removal
from env_manager.keeping.disk_use import freed, inodes, total

_HOW = {
    "python": "Environments were built on them.",
    "wheels": "Each goes with the last environment that needs it.",
    "runs": "Runs and adapters are yours: nothing deletes them. A run's folder can be deleted by hand.",
    "trainers": "A run resumes with the code that it began with.",
}


@dataclass(frozen=True)
class Spare:
    """Bytes in the cache that can go: packages that no environment uses, and rows kept as tokens."""

    packages: int
    tokens: int


def spare_cache(operations: Operations) -> Spare:
    """What clearing the cache would free."""
    return Spare(removal.unused_cache_bytes(operations.store), _bytes_of(_token_entries(operations)))


def clear_cache(operations: Operations) -> Spare:
    """Delete what no environment uses and all rows kept as tokens; a run that reads some keeps what it has open."""
    entries = _token_entries(operations)
    tokens = _bytes_of(entries)
    for entry in entries:
        shutil.rmtree(entry, ignore_errors=True)
    return Spare(removal.clear_cache(operations.store), tokens)


def _token_entries(operations: Operations) -> list[Path]:
    """Finished entries; a hidden one is being written."""
    return [entry for entry in operations.home.token_cache.iterdir() if not entry.name.startswith(".")]


def _bytes_of(folders: list[Path]) -> int:
    return total(inodes(*folders).values())


def disk_view(operations: Operations) -> DiskView:
    """What each part of the home folder takes, and what can be freed in it; takes about a second."""
    store = operations.store
    spare = spare_generations(operations)
    deleted = freed(inodes(*(store.envs / id for id in spare)).values())
    spare_of_cache = spare_cache(operations)
    cached = spare_of_cache.packages + spare_of_cache.tokens
    spared = {"envs": deleted, "cache": cached}
    how = _HOW | {"envs": _of_environments(len(spare)), "cache": _of_cache(cached)}
    return DiskView(
        home=str(operations.home.root),
        free_bytes=shutil.disk_usage(operations.home.root).free,
        parts=[
            DiskPart(
                name=part.name,
                title=part.title,
                bytes=part.bytes,
                freeable_bytes=spared.get(part.name, 0),
                how=how.get(part.name, ""),
            )
            for part in parts(operations.home)
        ],
    )


def spare_generations(operations: Operations) -> list[str]:
    """Generations that could be deleted: not active, not pinned, not used by a run."""
    store, in_use = operations.store, operations.generations_in_use()
    active = store.active_id()
    return [
        each.id
        for each in store.list()
        if each.id != active and not each.pinned and each.id not in in_use and not removal.processes_in(each.folder)
    ]


def _of_environments(spare: int) -> str:
    if not spare:
        return "Packages that several environments have are stored once."
    which = "one environment that is" if spare == 1 else f"{spare} environments that are"
    return f"By deleting {which} neither active nor pinned. Packages that several have are stored once."


def _of_cache(bytes: int) -> str:
    if not bytes:
        return "Its files are those of the environments, so it takes little more."
    return "By clearing it of what no environment uses, and of rows kept as tokens; what is needed is fetched or made again."

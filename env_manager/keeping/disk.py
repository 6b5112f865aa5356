"""Checks before an installation that it fits on the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from env_manager.errors import EnvError
from env_manager.fetching.wheels import BLOCK_BYTES, UNKNOWN, WheelSize, on_disk
from env_manager.planning.resolve import Lock

# What is compiled while a stack is proved, measured on the CPU stack: bytes for each byte of source, and in how many
# of the folders with sources.
_BYTECODE_SHARE = 0.5
_COMPILED_FOLDERS = 0.3
# An empty environment, its records, wide folders; uv's copies of index pages; room for the system to breathe.
_ENVIRONMENT_BYTES = 1_000_000
_INDEX_BYTES = 8_000_000
_MARGIN_BYTES = 64 * 1024**2
# Small files of a package that every environment has for itself.
_OWN_FILES = 3


def bytes_needed(
    envs: Path, cache: Path, lock: Lock, sizes: Mapping[str, WheelSize], compiled: Mapping[str, str] | None = None
) -> int:
    """Bytes that an installation will take on the disk of `envs`.

    What the cache has is linked, or copied where it lies on another disk. `compiled` names the
    versions whose bytecode an older environment can share.
    """
    here = {(wheel.name, wheel.version) for wheel in downloaded(cache) | _entries(cache, ".rev")}
    together = _one_volume(envs, cache)
    needed = _ENVIRONMENT_BYTES
    for package in lock.packages:
        size = sizes.get(package.name, UNKNOWN)
        folders = size.folders + int(size.source_folders * _COMPILED_FOLDERS)
        needed += (folders + _OWN_FILES) * BLOCK_BYTES + on_disk(size.listed)
        if not together:
            needed += size.blocks
        elif (package.name, package.version) not in here:
            needed += size.blocks + size.folders * BLOCK_BYTES
        if (compiled or {}).get(package.name) != package.version:
            needed += int(size.sources * _BYTECODE_SHARE)
    return needed if here else needed + _INDEX_BYTES


def require_space(envs: Path, needed: int) -> None:
    """Raise `disk-full` before anything is written if that many bytes and some to breathe are not free."""
    free = shutil.disk_usage(envs).free
    if free < needed + _MARGIN_BYTES:
        raise EnvError(
            "disk-full",
            f"The installation needs {in_words(needed)} but only {in_words(free)} are free in {envs}.",
            "Free some space or move the Fettle folder to a larger disk, then try again.",
        )


def _one_volume(envs: Path, cache: Path) -> bool:
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    return os.stat(existing).st_dev == os.stat(envs).st_dev


@dataclass(frozen=True)
class CachedWheel:
    """One entry of uv's cache; `tags` are a wheel's, or a digest of them where they are long."""

    name: str
    version: str
    tags: str

    def is_of(self, name: str, file_name: str) -> bool:
        """Whether it is of that package's wheel; of two with a digest only the version can be compared."""
        version, *tags = file_name.removesuffix(".whl").split("-")[1:]
        same = "-" not in self.tags or self.tags.split("-")[:2] == tags[-3:-1]
        return same and (self.name, self.version) == (name, version)


def downloaded(cache: Path) -> set[CachedWheel]:
    """Every wheel that uv has fetched into its cache."""
    return _entries(cache, ".http")


def _entries(cache: Path, ending: str) -> set[CachedWheel]:
    # uv's cache has one entry a wheel, named after version and tags, in a folder named after the
    # package. If a later uv does it otherwise nothing is found, and the estimate is the full size.
    found: set[CachedWheel] = set()
    for place in ("*/*/*", "*/*/*/*"):
        for entry in cache.glob(f"wheels-*/{place}{ending}"):
            version, _, tags = entry.name.removesuffix(ending).partition("-")
            found.add(CachedWheel(entry.parent.name, version, tags))
    return found


def in_words(count: float) -> str:
    """Bytes for a message: gigabytes as disks count them, below one megabytes."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"

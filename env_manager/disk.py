"""Checks before an installation that it fits on the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from env_manager.errors import EnvError
from env_manager.resolve import Lock
from env_manager.wheels import WheelSize

# Bytecode that the probes write, and room for the system to breathe.
_RESERVE_BYTES = 256 * 1024**2


def bytes_needed(envs: Path, cache: Path, lock: Lock, sizes: Mapping[str, WheelSize]) -> int:
    """Bytes the installation will take: what is not cached yet, twice if cache and environments lie apart."""
    here = {(wheel.name, wheel.version) for wheel in downloaded(cache) | _entries(cache, ".rev")}
    new = everything = 0
    for package in lock.packages:
        size = sizes.get(package.name, WheelSize(None, None)).unpacked or 0
        everything += size
        if (package.name, package.version) not in here:
            new += size
    # On one volume the environment's files are links to the cache's, on two they are copies.
    return (new if _one_volume(envs, cache) else new + everything) + _RESERVE_BYTES


def require_space(envs: Path, cache: Path, lock: Lock, sizes: Mapping[str, WheelSize], kept_wheels: int = 0) -> None:
    """Raise `disk-full` before anything is written if the installation cannot fit.

    `kept_wheels` is what large wheels will take as they come, beside what they unpack to.
    """
    needed = bytes_needed(envs, cache, lock, sizes) + kept_wheels
    free = shutil.disk_usage(envs).free
    if free < needed:
        raise EnvError(
            "disk-full",
            f"The installation needs {needed / 1e9:.1f} GB but only {free / 1e9:.1f} GB are free in {envs}.",
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

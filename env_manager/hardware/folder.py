"""The folder that will hold environments: room, case, length of paths."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from env_manager.hardware.outside import Outside
from env_manager.hardware.system import parse_registry

_LONG_PATHS = r"HKLM\SYSTEM\CurrentControlSet\Control\FileSystem"


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next((each for each in (folder, *folder.parents) if each.exists()), folder)


def free_bytes(folder: Path) -> int | None:
    """Free space where the folder is or would be."""
    for candidate in (folder, *folder.parents):
        try:
            return shutil.disk_usage(candidate).free
        except OSError:
            continue
    return None


def case_sensitive(folder: Path) -> bool | None:
    """Whether `a` and `A` are two names there, learned without writing; None where no name has a letter."""
    there = existing(folder)
    for path in (there, *there.parents):
        other = path.with_name(path.name.swapcase()) if path.name else path
        if other == path:
            continue
        try:
            return not os.path.samefile(path, other)
        except OSError:
            return True
    return None


def long_paths(outside: Outside) -> bool | None:
    """Whether paths above 260 characters work: only Windows has that switch, and it is off by default."""
    if outside.system != "windows":
        return True
    value = parse_registry(outside.said("reg", "query", _LONG_PATHS, "/v", "LongPathsEnabled"))
    return value == "0x1"

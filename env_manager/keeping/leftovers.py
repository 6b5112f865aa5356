"""What killed processes left behind: build folders, half-written files, half-unpacked packages in the cache."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import filelock

from env_manager import durable
from env_manager.generation import BUILD_PREFIX

REMOVED_PREFIX = ".removed-"
# In the cache: its name says to uv as to us that nobody needs it.
CLEARED_PREFIX = ".tmp-cleared-"


def left_over(envs: Path, generations: Iterable[Path], cache: Path) -> Iterator[Path]:
    """Everything that nobody will finish. What uv has open in the cache at this moment is not told apart.

    A folder that cannot be listed now keeps what it holds until the next time.
    """
    for prefix in (BUILD_PREFIX, REMOVED_PREFIX):
        yield from durable.listed(envs, prefix + "*")
    yield from durable.abandoned((envs, *generations))
    for bucket in (cache, *durable.listed(cache, "[!.]*/")):
        # The unpacked packages are by far the most, and uv unpacks beside them.
        if not bucket.name.startswith("archive-"):
            yield from durable.listed(bucket, ".tmp*" if bucket == cache else "**/.tmp*")


def remove(envs: Path, generations: Iterable[Path], cache: Path) -> tuple[str, ...]:
    """Remove it, for a caller that holds the install lock; returns the names of the folders that went.

    What cannot be removed is in nobody's way. In the cache nothing is touched while a uv works with it.
    """
    left = list(left_over(envs, generations, cache))
    gone = [path for path in left if cache not in path.parents and _deleted(path)]
    with suppress(filelock.Timeout, OSError), _no_uv_in(cache):
        gone += [path for path in left if cache in path.parents and _deleted(path)]
    return tuple(path.name for path in gone if path.name.startswith((BUILD_PREFIX, REMOVED_PREFIX)))


def _no_uv_in(cache: Path) -> AbstractContextManager[object]:
    # Each uv holds a shared lock on this file as long as it works.
    lock = cache / ".lock"
    return filelock.FileLock(lock, blocking=False) if lock.exists() else nullcontext()


def _deleted(path: Path) -> bool:
    try:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError:
        return False  # belongs to another user, perhaps
    return True

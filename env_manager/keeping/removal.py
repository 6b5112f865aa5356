"""Deletes generations: what that would free is told first, and what is in use is refused."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from env_manager import durable
from env_manager.errors import EnvError, from_os
from env_manager.fetching.large import WHEELS, only_for
from env_manager.generations import Generation, Store
from env_manager.keeping.disk_use import freed, inodes, total
from env_manager.keeping.leftovers import CLEARED_PREFIX, REMOVED_PREFIX

POLICY = "keep.json"


@dataclass(frozen=True)
class Removal:
    """What deleting these generations does to the disk.

    `freed_bytes` come free by the deletion alone, with large wheels that nothing else needs; `kept_bytes` stay because the package cache or
    another generation uses the same files; `cache_bytes` come free in the cache if that is cleared
    of what no other generation uses.
    """

    generations: tuple[str, ...]
    freed_bytes: int
    kept_bytes: int
    cache_bytes: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def preview(store: Store, ids: Sequence[str]) -> Removal:
    """What `remove` would free; nothing is changed."""
    folders = [store.get(id).folder for id in ids]
    going = [*folders, *only_for(store.root / WHEELS, store.envs, folders)]
    here = inodes(*going)
    alone = freed(here.values())
    with_cache = inodes(*going, *_unused_archives(store, folders))
    return Removal(tuple(ids), alone, total(here.values()) - alone, freed(with_cache.values()) - alone)


def remove(store: Store, ids: Sequence[str], *, in_use: Collection[str] = (), with_cache: bool = False) -> Removal:
    """Delete generations and return what came free.

    `in_use` names generations that a live run uses. One rename takes each out of sight, so that a
    kill leaves it whole or gone; what is left of the files then goes at the next start.
    """
    with store.install_lock():
        for id in ids:
            require_removable(store, store.get(id), in_use)
        told = preview(store, ids)
        folders = [store.envs / id for id in ids]
        unneeded = only_for(store.root / WHEELS, store.envs, folders)
        unneeded += _unused_archives(store, folders) if with_cache else []
        for id in ids:
            _remove(store, id)
        for folder in unneeded:
            _clear(store, folder)
        return told


def require_removable(store: Store, generation: Generation, in_use: Collection[str] = ()) -> None:
    """Raise an EnvError where deleting this generation would break something."""
    id = generation.id
    if store.active_id() == id:
        raise EnvError(
            "generation-active",
            f"Environment {id} is the active one and was not deleted.",
            "Switch to another environment first: `fettle env rollback`.",
        )
    if id in in_use or processes_in(generation.folder):
        raise EnvError(
            "generation-in-use",
            f"A process runs in environment {id}, so it was not deleted.",
            "Wait for the run to end, or stop it.",
        )
    if generation.pinned:
        raise EnvError(
            "generation-pinned", f"Environment {id} is pinned and was not deleted.", "Unpin it first if it may go."
        )


def _remove(store: Store, id: str) -> None:
    hidden = store.envs / f"{REMOVED_PREFIX}{id}"
    try:
        (store.envs / id).rename(hidden)
        durable.sync_folder(store.envs)
        store.note_removal(id)
        shutil.rmtree(hidden)
    except OSError as error:
        raise from_os(error, f"delete environment {id}") from error


def _clear(store: Store, unneeded: Path) -> None:
    """Take an unpacked package, or a large wheel, away by one rename: one half deleted would be installed from."""
    hidden = store.cache / f"{CLEARED_PREFIX}{unneeded.name}"
    try:
        unneeded.rename(hidden)
    except OSError:
        return  # it stays whole, and only takes room
    shutil.rmtree(hidden, ignore_errors=True)


def processes_in(folder: Path) -> tuple[int, ...]:
    """Processes that were started from a program below the folder; on Linux only, elsewhere unknown."""
    if sys.platform != "linux":
        return ()
    found = []
    start = os.fsencode(folder) + b"/"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it ended, or belongs to somebody else
            if command.startswith(start):
                found.append(int(entry.name))
    return tuple(found)


def _unused_archives(store: Store, leaving: Iterable[Path]) -> list[Path]:
    """Unpacked packages in the cache that nothing but the `leaving` generations links to."""
    there = inodes(*leaving)
    unused = []
    for archive in sorted((store.cache / "archive-v0").glob("*")):
        files = inodes(archive)
        if all(file.links <= file.met + (there[id].met if id in there else 0) for id, file in files.items()):
            unused.append(archive)
    return unused


def keep_policy(store: Store) -> int | None:
    """How many generations are kept beside those that always are; None keeps all."""
    try:
        keep = durable.read_json(store.envs / POLICY)["keep"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return keep if isinstance(keep, int) and not isinstance(keep, bool) and keep >= 1 else None


def set_keep_policy(store: Store, keep: int | None) -> None:
    """Keep this many of the newest generations from the next installation on; None keeps all."""
    if keep is not None and keep < 1:
        raise EnvError("keep-invalid", "At least one environment is kept.", "Name a number from 1, or `all`.")
    try:
        store.envs.mkdir(parents=True, exist_ok=True)
        durable.replace_json(store.envs / POLICY, {"keep": keep})
    except OSError as error:
        raise from_os(error, "keep how many environments to keep") from error


def superfluous(store: Store, keep: int, in_use: Collection[str] = ()) -> tuple[str, ...]:
    """What a policy of `keep` would delete: neither the newest nor active, previous, pinned or in use."""
    status = store.status()
    good = status.generations
    safe = {generation.id for generation in good[-keep:]} | {each.id for each in good if each.pinned} | set(in_use)
    safe |= {each.id for each in (status.active, status.previous) if each}
    return tuple(each.id for each in good if each.id not in safe and not processes_in(each.folder))


def unused_cache_bytes(store: Store) -> int:
    """The bytes of the package cache that no generation uses."""
    return freed(inodes(*_unused_archives(store, ())).values())


def clear_cache(store: Store) -> int:
    """Delete what no generation uses from the package cache; returns the bytes that came free."""
    with store.install_lock():
        archives = _unused_archives(store, ())
        told = freed(inodes(*archives).values())
        for archive in archives:
            _clear(store, archive)
        return told


def keep_newest(store: Store, keep: int | None, *, in_use: Collection[str] = (), with_cache: bool = False) -> Removal:
    """Set the policy and delete at once what it does not keep; None keeps everything."""
    set_keep_policy(store, keep)
    return Removal((), 0, 0, 0) if keep is None else prune(store, keep, in_use=in_use, with_cache=with_cache)


def prune(store: Store, keep: int, *, in_use: Collection[str] = (), with_cache: bool = False) -> Removal:
    """Delete what the policy does not keep; nothing at all where it keeps everything."""
    return remove(store, superfluous(store, keep, in_use), in_use=in_use, with_cache=with_cache)

"""Builds a damaged generation anew from its own lock, after taking damaged packages out of the cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from env_manager.assemble import assemble
from env_manager.build import Build, building
from env_manager.errors import EnvError, InstallStopped
from env_manager.fetching.large import WHEELS, LargeWheels
from env_manager.generations import Generation, Store
from env_manager.keeping.labels import MOST_NAME
from env_manager.planning.plan import Plan
from env_manager.planning.recorded import recorded_lock, recorded_plan
from env_manager.planning.resolve import LOCK_NAME, PYLOCK_NAME, Lock
from env_manager.progress import Reporter
from env_manager.proving.damage import note_damage
from env_manager.proving.integrity import Integrity, examine, remember_damage


@dataclass(frozen=True)
class Repaired:
    """The new generation, what was wrong with the old one, and the packages taken out of the cache."""

    generation: Generation
    damage: Integrity
    evicted: tuple[str, ...]
    switched: bool


def repair(
    store: Store,
    id: str | None = None,
    *,
    report: Reporter,
    cancelled: Callable[[], bool] = lambda: False,
    whole: bool = False,
) -> Repaired:
    """Rebuild generation `id`, or the active one, from its lock and switch to the result if it was active.

    Only what is damaged is fetched again. The damaged generation stays until it is deleted. With
    `whole` a generation is rebuilt although no recorded file is damaged, as when files were added.
    """
    with store.install_lock():
        store.remove_leftovers()
        old = store.get(id) if id else store.active()
        if old is None:
            raise EnvError(
                "no-environment", "No environment is installed yet, so there is nothing to repair.", "Install it first."
            )
        report.phase("examine", "Comparing every file with its record")
        damage = examine(store, old, full=True, cancelled=cancelled)
        if cancelled():
            raise InstallStopped()
        if damage.sound and not whole and os.path.exists(old.python):
            raise EnvError(
                "nothing-to-repair",
                f"Every file of environment {old.id} is as it was recorded.",
                "If it does not work, look at its diagnosis: `fettle env diagnose`.",
            )
        lock, plan = recorded_lock(old), recorded_plan(old)
        with building(store, report, cancelled) as build:
            build.uv = build.uv.with_cache_first()
            evicted = _evict(build, damage)
            generation = _rebuild(build, old, plan, lock)
        remember_damage(store, damage)
        if damage.sound:
            note_damage(
                old.folder, f"It did not work and was built again as {generation.id}; its files are as recorded."
            )
        switched = store.active_id() == old.id
        if switched:
            report.phase("activate", "Making it the active environment")
            store.point_to(generation.id, "repair")
        return Repaired(generation, damage, evicted, switched)


def _evict(build: Build, damage: Integrity) -> tuple[str, ...]:
    """Take damaged packages out of the cache, or the rebuilt environment would link the same files."""
    if damage.damaged_in_cache:
        build.phase("evict", f"Taking out of the cache: {', '.join(damage.damaged_in_cache)}")
        build.evict(damage.damaged_in_cache)
    return damage.damaged_in_cache


def _rebuild(build: Build, old: Generation, plan: Plan, lock: Lock) -> Generation:
    interpreter = build.make_environment([old.interpreter["version"]])
    for name in (LOCK_NAME, PYLOCK_NAME):
        if (old.folder / name).is_file():
            shutil.copyfile(old.folder / name, build.folder / name)
    return assemble(
        build,
        interpreter,
        plan,
        lock,
        sizes={},
        large=LargeWheels(build.uv, build.store.root / WHEELS, {}, above=0),  # uv's cache has nearly all
        # The old bytecode may be what is broken.
        share_bytecode=False,
        name=f"repair of {old.name or old.id}"[:MOST_NAME],
        hardware=old.hardware,
        decided_by=old.decided_by,
    )

"""Builds a damaged generation anew from its own lock, after taking damaged packages out of the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from env_manager.before_run import remember
from env_manager.build_steps import StepRunner
from env_manager.catalog import Hold, load_catalog
from env_manager.damage import note_damage
from env_manager.errors import EnvError, InstallStopped, UvFailed
from env_manager.generations import Generation, Store
from env_manager.install import Build, building
from env_manager.integrity import Integrity, examine, remember_damage
from env_manager.labels import MOST_NAME
from env_manager.large import WHEELS, LargeWheels
from env_manager.plan import LeftOut, Plan, PlannedStep, TorchSource
from env_manager.progress import Reporter
from env_manager.resolve import LOCK_NAME, Lock, index_arguments, parse_lock, split_by_step
from env_manager.torch_index import TorchChoice
from env_manager.uv import Uv


@dataclass(frozen=True)
class Repaired:
    """The new generation, what was wrong with the old one, and the packages taken out of the cache."""

    generation: Generation
    damage: Integrity
    evicted: tuple[str, ...]
    switched: bool


@dataclass(frozen=True)
class OfflineFirst(Uv):
    """uv that asks the network only for what the cache cannot give."""

    def run(self, arguments: Sequence[str], *, cwd: Path, on_tick: Callable[[], None] = lambda: None) -> str:
        """Run offline; what cannot be had so is tried once more with the network."""
        if not self.offline:
            try:
                return Uv.run(replace(self, offline=True), arguments, cwd=cwd, on_tick=on_tick)
            except InstallStopped:
                raise
            except UvFailed as error:
                self.log(f"{error.message} The cache does not have all of it; trying with the network.")
        return super().run(arguments, cwd=cwd, on_tick=on_tick)


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
        if damage.sound and not whole:
            raise EnvError(
                "nothing-to-repair",
                f"Every file of environment {old.id} is as it was recorded.",
                "If it does not work, look at its diagnosis: `fettle env diagnose`.",
            )
        lock, plan = _recorded_lock(old), _recorded_plan(old)
        with building(store, report, cancelled) as build:
            build.uv = OfflineFirst(**{each.name: getattr(build.uv, each.name) for each in fields(Uv)})
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
    interpreter = build.make_environment(replace(load_catalog(), python=(old.interpreter["version"],)))
    (build.folder / LOCK_NAME).write_text(lock.text, encoding="utf-8", newline="\n")
    build.phase("install", "Installing from the lock, step by step")
    none_fetched_here = LargeWheels(build.uv, build.store.root / WHEELS, {}, above=0)  # uv's cache has nearly all
    arguments = index_arguments(plan)
    steps = StepRunner(
        build.uv, build.python, build.folder, build.report, {}, none_fetched_here, arguments, plan.torch.environ()
    )
    rows = steps.run_all(split_by_step(plan, lock))
    build.phase("verify", "Checking every installed file")
    build.require_whole()
    build.phase("prove", "Proving the finished environment")
    checks = build.prove(plan, lock)
    build.phase("commit", "Making the new environment durable")
    generation = build.commit(
        name=f"repair of {old.name or old.id}"[:MOST_NAME],
        packages=lock.versions,
        hardware=old.hardware,
        plan=old.plan,
        overrides=old.overrides,
        lock_sha256=lock.sha256,
        interpreter={"path": interpreter.path, "version": interpreter.version, "reason": interpreter.reason},
        steps=tuple(rows),
        checks=tuple(check.as_json() for check in checks),
        probes=old.probes,
    )
    remember(generation, checks)
    return generation


def _recorded_lock(generation: Generation) -> Lock:
    try:
        data = (generation.folder / LOCK_NAME).read_bytes()
    except OSError as error:
        raise _no_lock(generation, "missing") from error
    if hashlib.sha256(data).hexdigest() != generation.lock_sha256:
        raise _no_lock(generation, "altered")
    return parse_lock(data.decode())


def _no_lock(generation: Generation, how: str) -> EnvError:
    return EnvError(
        "lock-damaged",
        f"The lock of environment {generation.id} is {how}, so it cannot be built again from it.",
        "Roll back to another environment, or install the dependencies again.",
    )


def _recorded_plan(generation: Generation) -> Plan:
    """The plan as it was recorded; fields that this version does not know are passed over."""
    data = dict(generation.plan)
    nested: dict[str, Any] = {
        "torch": lambda row: _make(TorchChoice, row),
        "source": lambda row: _make(TorchSource, row) if row else None,
        "steps": lambda rows: tuple(_make(PlannedStep, row) for row in rows),
        "left_out": lambda rows: tuple(_make(LeftOut, row) for row in rows),
        "holds": lambda rows: tuple(_make(Hold, row) for row in rows),
    }
    try:
        made = {name: make(data[name]) for name, make in nested.items()}
        plan: Plan = _make(Plan, data | made)
        return plan
    except (KeyError, TypeError, AttributeError) as error:
        raise EnvError(
            "generation-damaged",
            f"The record of environment {generation.id} does not say what was planned.",
            "Use another environment, or install the dependencies again.",
        ) from error


def _make(kind: Any, row: dict[str, Any]) -> Any:
    known = {each.name for each in fields(kind)}
    return kind(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in row.items() if name in known}
    )

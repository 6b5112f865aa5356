"""From a request to a plan and its lock: brought along, taken over from an earlier generation, or resolved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from env_manager.build import Build
from env_manager.errors import UvFailed
from env_manager.fetching.large import WHEELS, LargeWheels, wheel_files
from env_manager.fetching.wheel_sizes import WheelSizes
from env_manager.fetching.wheels import WheelSize
from env_manager.generations import Generation
from env_manager.hardware import Hardware
from env_manager.planning.age import far_behind, refuse_below_floors, told, who_caps
from env_manager.planning.catalog import Catalog
from env_manager.planning.plan import Plan, make_plan
from env_manager.planning.recorded import recorded_lock, recorded_plan
from env_manager.planning.resolve import (
    LOCK_NAME,
    PYLOCK_NAME,
    Lock,
    chosen_wheels,
    is_impossible,
    name_wheels,
    optional_culprits,
    resolve,
)
from env_manager.planning.reuse import deciding, find_decided
from env_manager.planning.torch_index import Asked
from env_manager.planning.torch_source import find_torch
from env_manager.sharing.exchange import Recipe
from env_manager.sharing.imported import plan_for, with_reasons
from env_manager.sharing.update import Attempt


@dataclass(frozen=True)
class Request:
    """What an installation was asked for beside what the catalog says.

    A `recipe` brings a lock from elsewhere; `preferred` versions are taken for packages that turn out
    to be needed and are no reason to install one; `anew` resolves even where an earlier lock holds.
    """

    overrides: Mapping[str, str] = field(default_factory=dict)
    allow_large: bool = False
    name: str | None = None
    asked: Asked = field(default_factory=Asked)
    recipe: Recipe | None = None
    preferred: Mapping[str, str] = field(default_factory=dict)
    anew: bool = False


@dataclass(frozen=True)
class Locked:
    """A plan with its lock; `decided_by` stands for all that decided it."""

    plan: Plan
    lock: Lock
    decided_by: str = ""


def lock_for(build: Build, hardware: Hardware, catalog: Catalog, request: Request, release: str) -> Locked:
    """The plan and the lock for Python `release`; writes `requirements.lock` into the build folder."""
    if request.recipe:
        return _brought(build, request.recipe, hardware, catalog, request.asked, release)
    build.phase("plan", "Deciding what this machine needs")
    planned = partial(make_plan, hardware, catalog, overrides=request.overrides, asked=request.asked, python=release)
    plan = planned()
    for line in (plan.torch.reason, *plan.notes):
        build.uv.log(line)
    decided_by = deciding(plan, catalog, release, build.uv.environ, request.preferred, request.allow_large)
    twin = None if request.anew else find_decided(build.store, decided_by, planned)
    if twin:
        return _taken_over(build, twin, decided_by)
    plan, lock = build.or_from_cache(lambda: _resolved(build, planned, catalog, request))
    return Locked(plan, lock, decided_by)


def _taken_over(build: Build, twin: Generation, decided_by: str) -> Locked:
    build.phase("resolve", f"Taking the exact versions of {twin.id}: nothing that decides them has changed")
    locked = Locked(recorded_plan(twin), recorded_lock(twin), decided_by)
    for name in (LOCK_NAME, PYLOCK_NAME):
        (build.folder / name).write_bytes((twin.folder / name).read_bytes())
    # It was installed once, so the cache has it: the network is asked for what was cleared away since.
    build.uv, build.lock_taken_from = build.uv.with_cache_first(), twin.id
    return locked


def _brought(build: Build, recipe: Recipe, hardware: Hardware, catalog: Catalog, asked: Asked, release: str) -> Locked:
    """With its own folder of wheels nothing else is asked."""
    build.phase("resolve", "Reading the imported versions")
    plan, lock = plan_for(recipe, hardware, catalog, asked, release)
    refuse_below_floors(lock.versions, catalog)
    if recipe.wheels:
        build.uv = build.uv.only_from(recipe.wheels)
        plan = replace(plan, source=replace(plan.source, index_url=None)) if plan.source else plan
    if not any(package.needed_by for package in recipe.lock.packages):
        lock = build.or_from_cache(lambda: with_reasons(plan, recipe.lock, build.uv, build.python, build.folder))
    (build.folder / LOCK_NAME).write_text(lock.text, encoding="utf-8", newline="\n")
    return Locked(plan, lock)


def _resolved(build: Build, planned: Callable[..., Plan], catalog: Catalog, request: Request) -> tuple[Plan, Lock]:
    source = find_torch(
        planned(),
        catalog,
        build.uv,
        build.python,
        build.folder,
        WheelSizes(build.store.wheel_sizes),
        request.allow_large,
    )
    plan = planned(source=source)
    build.phase("resolve", "Finding exact versions of all packages")
    try:
        lock = _resolve(build, plan, request)
    except UvFailed as error:
        without = optional_culprits(plan, error)
        if not without:
            raise
        plan = planned(source=source, without=without)
        lock = _resolve(build, plan, request)
    for left in plan.left_out:
        build.uv.log(f"left out: {left.package}: {left.reason}")
    refuse_below_floors(lock.versions, catalog)
    return _with_age(build, plan, lock, catalog), lock


def _resolve(build: Build, plan: Plan, request: Request) -> Lock:
    if request.preferred:
        try:
            return resolve(plan, build.uv, build.python, build.folder, request.preferred)
        except UvFailed as error:
            if not is_impossible(error):
                raise
            build.uv.log(f"{error.message} The versions of packages that are only pulled in are left to the index.")
    return resolve(plan, build.uv, build.python, build.folder)


def _with_age(build: Build, plan: Plan, lock: Lock, catalog: Catalog) -> Plan:
    """The plan with a note for each package that lands far behind the newest."""
    caps = far_behind(lock.versions, catalog)
    if not caps:
        return plan
    holds = {hold.name: hold.reason for hold in catalog.holds}
    attempt = Attempt(plan, build.uv, build.python, build.folder)
    notes = told([who_caps(attempt.with_requirement, cap, holds, lock.versions) for cap in caps], catalog.date)
    for note in notes:
        build.uv.log(f"warning: {note}")
    return replace(plan, notes=(*plan.notes, *notes))


def measure(build: Build, plan: Plan, catalog: Catalog) -> tuple[dict[str, WheelSize], LargeWheels]:
    """The size of the wheel of each package in the lock, and which of them are large."""
    build.phase("measure", "Asking how large the packages are")
    if build.lock_taken_from is None:
        name_wheels(build.uv, plan, build.python, build.folder)
    chosen = chosen_wheels(build.folder)
    measured = WheelSizes(build.store.wheel_sizes).of(chosen.values(), build.uv)
    files = wheel_files(build.folder, chosen, measured)
    large = LargeWheels(build.uv, build.store.root / WHEELS, files, catalog.large_wheel_bytes)
    return {name: measured[url] for name, url in chosen.items()}, large

"""The whole story of an installation.

A generation is built in a folder of its own, proved, made durable and renamed; only then does the
pointer move. Until that moment the active environment is exactly as it was, whatever happens.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from env_manager import durable, verify
from env_manager.age import far_behind, refuse_below_floors, told, who_caps
from env_manager.before_run import remember
from env_manager.build_steps import StepRunner
from env_manager.bytecode import SharedBytecode
from env_manager.catalog import Catalog, load_catalog
from env_manager.disk import require_space
from env_manager.errors import EnvError, InstallStopped, UvFailed, from_os
from env_manager.exchange import Recipe, plan_for
from env_manager.file_record import RECORD_NAME, known_hashes, take_record
from env_manager.generations import BUILD_PREFIX, MANIFEST, Generation, Store
from env_manager.hardware import Hardware, detect
from env_manager.interpreter import Interpreter, choose_interpreter
from env_manager.labels import Label, checked, write_label
from env_manager.large import WHEELS, LargeWheels, collect_wheels, wheel_files
from env_manager.plan import Plan, make_plan
from env_manager.preflight import Check, check_files, probe, probes_for
from env_manager.progress import Reporter
from env_manager.proof import NO_PROOF, Proof, find_proof
from env_manager.resolve import (
    LOCK_NAME,
    Lock,
    WheelSizes,
    choose_wheels,
    index_arguments,
    is_impossible,
    is_unreachable,
    optional_culprits,
    resolve,
    split_by_step,
)
from env_manager.torch_index import Asked
from env_manager.torch_source import find_torch
from env_manager.update import Attempt
from env_manager.uv import Uv
from env_manager.wheels import WheelSize

T = TypeVar("T")


def install(
    store: Store,
    *,
    report: Reporter,
    cancelled: Callable[[], bool],
    overrides: dict[str, str] | None = None,
    allow_large: bool = False,
    name: str | None = None,
    catalog: Catalog | None = None,
    hardware: Hardware | None = None,
    asked: Asked = Asked(),
    recipe: Recipe | None = None,
    preferred: Mapping[str, str] | None = None,
) -> Generation:
    """Install everything for this machine into a new generation, prove it and make it the active one.

    A `recipe` brings a lock from elsewhere in place of a resolve; `preferred` versions are taken
    for packages that turn out to be needed and are no reason to install one.

    Raises an EnvError whose code says what went wrong; `InstallStopped` after a cancellation. In
    every such case the active environment is untouched and the build folder is gone.
    """
    report.phase("lock", "Making sure that no other installation runs")
    with store.install_lock():
        store.remove_leftovers()
        report.phase("detect", "Looking at this machine")
        hardware = hardware or detect(store.root)
        catalog = catalog or load_catalog()
        request = Request(dict(overrides or {}), allow_large, name, recipe, dict(preferred or {}))
        with building(store, report, cancelled, asked) as build:
            generation = _build(build, hardware, catalog, request)
            report.phase("activate", "Making it the active environment")
            store.point_to(generation.id, "install")
            collect_wheels(store.root / WHEELS, store.envs)
            return generation


@contextmanager
def building(store: Store, report: Reporter, cancelled: Callable[[], bool], asked: Asked = Asked()) -> Iterator[Build]:
    """A build folder that is gone at the end unless it was committed; a failure's log is kept."""
    build = Build.begin(store, report, cancelled, asked)
    try:
        yield build
    except InstallStopped:
        raise
    except EnvError as error:
        build.keep_log(error)
        raise
    except OSError as error:
        failure = from_os(error, "write the new environment")
        build.keep_log(failure)
        raise failure from error
    finally:
        build.remove()


@dataclass(frozen=True)
class Request:
    """What an installation was asked for beside what the catalog says."""

    overrides: dict[str, str]
    allow_large: bool = False
    name: str | None = None
    recipe: Recipe | None = None
    preferred: dict[str, str] = field(default_factory=dict)


def _build(build: Build, hardware: Hardware, catalog: Catalog, request: Request) -> Generation:
    recipe = request.recipe
    if recipe and recipe.origin.python:
        catalog = replace(catalog, python=(recipe.origin.python,))
    interpreter = build.make_environment(catalog)
    plan, lock = build.take(recipe, hardware, catalog) if recipe else build.plan_and_lock(hardware, catalog, request)
    sizes, large = build.or_from_cache(lambda: build.measure(plan, catalog))
    build.check_disk(lock, sizes, large)

    proof = build.proof(plan, lock, hardware, interpreter)
    build.phase("install", "Installing, step by step")
    steps = StepRunner(
        build.uv, build.python, build.folder, build.report, sizes, large, index_arguments(plan), plan.torch.environ()
    )
    steps.before_probe, steps.proved = build.shared_bytecode().share, proof.checks
    rows = steps.run_all(split_by_step(plan, lock))

    build.phase("verify", "Checking every installed file")
    build.require_whole()
    build.phase("prove", "Proving the finished environment")
    checks = build.prove(plan, lock, proof)

    build.phase("commit", "Making the new environment durable")
    generation = build.commit(
        name=request.name or (recipe.name if recipe else None),
        packages=lock.versions,
        hardware=hardware.as_json(),
        plan=plan.as_json(),
        overrides=plan.overrides,
        lock_sha256=lock.sha256,
        interpreter={"path": interpreter.path, "version": interpreter.version, "reason": interpreter.reason},
        steps=tuple(rows),
        checks=tuple(check.as_json() for check in checks),
        probes=build.probes(plan, lock),
        proof=proof.key,
        proved_by=proof.source,
    )
    remember(generation, checks)
    return generation


@dataclass
class Build:
    """A generation in the making: its folder, its uv, its log. Nothing outside the folder changes."""

    store: Store
    id: str
    folder: Path
    report: Reporter
    cancelled: Callable[[], bool]
    uv: Uv
    asked: Asked = field(default_factory=Asked)
    release: str | None = None  # of Python, once it is chosen
    started: float = field(default_factory=time.monotonic)
    finished: bool = False

    @classmethod
    def begin(cls, store: Store, report: Reporter, cancelled: Callable[[], bool], asked: Asked = Asked()) -> Build:
        """Make the build folder; its name marks it as removable until the commit renames it."""
        id = time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(2)
        folder = store.envs / f"{BUILD_PREFIX}{id}"
        try:
            folder.mkdir()
            (folder / "install.log").touch()
        except OSError as error:
            raise from_os(error, "make the folder for the new environment") from error

        def log(line: str) -> None:
            with (folder / "install.log").open("a", encoding="utf-8") as out:
                out.write(line + "\n")
            report.log(line)

        return cls(store, id, folder, report, cancelled, Uv.create(store.cache, log, cancelled), asked)

    @property
    def env(self) -> Path:
        return self.folder / "env"

    @property
    def python(self) -> Path:
        return Generation(self.id, "", self.folder, {}).python

    def phase(self, name: str, text: str) -> None:
        """Tell the next phase; every phase is also a place to stop."""
        if self.cancelled():
            raise InstallStopped()
        self.uv.log(f"== {name}: {text}")
        self.report.phase(name, text)

    def make_environment(self, catalog: Catalog) -> Interpreter:
        """Choose a Python and make an empty, relocatable environment on it."""
        self.phase("python", "Choosing a Python and making an empty environment")
        chosen = choose_interpreter(self.uv, catalog.python, self.store.pythons, self.folder)
        self.uv.log(chosen.reason)
        self.release = chosen.version
        # Relocatable, because the commit renames the folder above it.
        self.uv.run(["venv", "env", "--relocatable", "--python", chosen.path, "--quiet"], cwd=self.folder)
        return chosen

    def plan_and_lock(self, hardware: Hardware, catalog: Catalog, request: Request) -> tuple[Plan, Lock]:
        """Plan and resolve with the index, or from the cache alone where the index is out of reach."""
        return self.or_from_cache(lambda: self._plan_and_lock(hardware, catalog, request))

    def take(self, recipe: Recipe, hardware: Hardware, catalog: Catalog) -> tuple[Plan, Lock]:
        """The plan and the lock of a recipe; with its own folder of wheels nothing else is asked."""
        self.phase("resolve", "Reading the imported versions")
        plan, lock = plan_for(recipe, hardware, catalog, self.asked, self.release)
        refuse_below_floors(lock.versions, catalog)
        if recipe.wheels:
            self.uv = self.uv.only_from(recipe.wheels)
            plan = replace(plan, source=replace(plan.source, index_url=None)) if plan.source else plan
        (self.folder / LOCK_NAME).write_text(lock.text, encoding="utf-8", newline="\n")
        return plan, lock

    def or_from_cache(self, call: Callable[[], T]) -> T:
        """Do it with the index, or from the cache alone where the index is out of reach."""
        try:
            return call()
        except UvFailed as error:
            if self.uv.offline or not is_unreachable(error):
                raise
            self.uv.log(f"{error.message} Trying with what is in the cache.")
            online, self.uv = self.uv, self.uv.with_offline()
            try:
                return call()
            except UvFailed:
                self.uv = online
                raise error from None

    def _plan_and_lock(self, hardware: Hardware, catalog: Catalog, request: Request) -> tuple[Plan, Lock]:
        self.phase("plan", "Deciding what this machine needs")
        planned = partial(
            make_plan, hardware, catalog, overrides=request.overrides, asked=self.asked, python=self.release
        )
        plan = planned()
        for line in (plan.torch.reason, *plan.notes):
            self.uv.log(line)
        sizes = WheelSizes(self.store.cache.parent / "wheel-sizes.json")
        source = find_torch(plan, catalog, self.uv, self.python, self.folder, sizes, request.allow_large)
        plan = planned(source=source)
        self.phase("resolve", "Finding exact versions of all packages")
        try:
            lock = self._resolve(plan, request)
        except UvFailed as error:
            without = optional_culprits(plan, error)
            if not without:
                raise
            plan = planned(source=source, without=without)
            lock = self._resolve(plan, request)
        for left in plan.left_out:
            self.uv.log(f"left out: {left.package}: {left.reason}")
        return self.aged(plan, lock, catalog), lock

    def aged(self, plan: Plan, lock: Lock, catalog: Catalog) -> Plan:
        """The plan with a note for each package that lands far behind; refused where one is below a floor."""
        refuse_below_floors(lock.versions, catalog)
        caps = far_behind(lock.versions, catalog)
        if not caps:
            return plan
        holds = {hold.name: hold.reason for hold in catalog.holds}
        attempt = Attempt(plan, self.uv, self.python, self.folder)
        notes = told([who_caps(attempt.with_requirement, cap, holds, lock.versions) for cap in caps], catalog.date)
        for note in notes:
            self.uv.log(f"warning: {note}")
        return replace(plan, notes=(*plan.notes, *notes))

    def _resolve(self, plan: Plan, request: Request) -> Lock:
        if request.preferred:
            try:
                return resolve(plan, self.uv, self.python, self.folder, request.preferred)
            except UvFailed as error:
                if not is_impossible(error):
                    raise
                self.uv.log(f"{error.message} The versions of packages that are only pulled in are left to the index.")
        return resolve(plan, self.uv, self.python, self.folder)

    def measure(self, plan: Plan, catalog: Catalog) -> tuple[dict[str, WheelSize], LargeWheels]:
        """The size of the wheel of each package in the lock, and which of them are large."""
        self.phase("measure", "Asking how large the packages are")
        chosen = choose_wheels(self.uv, plan, self.python, self.folder)
        sizes = WheelSizes(self.store.cache.parent / "wheel-sizes.json")
        measured = sizes.of(chosen.values(), self.uv)
        files = wheel_files(self.folder, chosen, measured)
        large = LargeWheels(self.uv, self.store.root / WHEELS, files, catalog.large_wheel_bytes)
        return {name: measured[url] for name, url in chosen.items()}, large

    def check_disk(self, lock: Lock, sizes: dict[str, WheelSize], large: LargeWheels) -> None:
        """Refuse before anything is written if it cannot fit."""
        self.phase("disk", "Checking the free space")
        require_space(self.store.envs, self.uv.cache, lock, sizes, large.room_needed(lock.packages))

    def require_whole(self) -> None:
        """Refuse an environment that lacks what its packages name, and let their next copy be a fresh one."""
        damage = verify.against_records(self.env)
        if damage:
            site = verify.site_packages(self.env).relative_to(self.env).as_posix()
            owners = verify.owners(self.env, [f"{site}/{each.path}" for each in damage])
            self.evict(sorted(set(owners.values())))
            raise EnvError(
                "environment-torn",
                f"The new environment is incomplete: {damage[0]} ({len(damage)} files in all).",
                "Install again: the packages concerned were taken out of the cache and will be fetched anew.",
            )

    def evict(self, packages: Sequence[str]) -> None:
        """Take packages out of the cache: what is damaged there would be linked into every new environment."""
        if packages:
            self.uv.run(["cache", "clean", *packages, "--quiet"], cwd=self.folder)

    def probes(self, plan: Plan, lock: Lock) -> tuple[str, ...]:
        """What proves this generation: the probes of what is installed."""
        named = [each for step in plan.steps if step.requirements for each in step.probe]
        return probes_for(list(lock.versions), named)

    def proof(self, plan: Plan, lock: Lock, hardware: Hardware, interpreter: Interpreter) -> Proof:
        """What this generation's proof would hold for, and the findings if an earlier one has it."""
        proof = find_proof(
            self.store, lock.sha256, hardware.as_json(), interpreter.path, self.probes(plan, lock), plan.torch.devices
        )
        if proof.source:
            self.uv.log(f"proved in {proof.source}: the same lock, machine and interpreter; nothing is probed again")
        return proof

    def shared_bytecode(self) -> SharedBytecode:
        """Bytecode of the newest generations, to be shared where the sources are the same files."""
        return SharedBytecode(self.env, [other.env for other in reversed(self.store.list()[-3:])])

    def prove(self, plan: Plan, lock: Lock, proof: Proof = NO_PROOF) -> list[Check]:
        """Run every probe once more in the finished environment, all together in one process."""
        if proof.checks:
            return list(proof.checks)
        optional = {each for step in plan.steps if step.optional for each in step.probe}
        checks = probe(
            self.python,
            self.probes(plan, lock),
            cancelled=self.cancelled,
            log=self.uv.log,
            environ=plan.torch.environ(),
        )
        failed = [check for check in checks if not check.ok and check.name not in optional]
        if failed:
            raise EnvError(
                "probe-failed",
                f"The new environment was built but {failed[0].name} does not work in it: {failed[0].evidence}",
                "The active environment was not touched. Read the installation log, then try again.",
            )
        return checks

    def commit(self, **recorded: Any) -> Generation:
        """Record, make durable, rename: from here on the generation exists and never changes."""
        for scratch in ("search.in", "exact.in", "requirements.in", "constraints.txt", "default-torch", "steps"):
            _remove(self.folder / scratch)
        size = self._take_record()
        generation = Generation(
            id=self.id,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            serial=self.store.next_serial(),
            folder=self.folder,
            bytes=size,
            seconds=round(time.monotonic() - self.started, 1),
            **recorded,
        )
        files = [check.as_json() for check in check_files(generation)]
        generation = replace(generation, checks=(*files, *generation.checks))
        if generation.name:
            write_label(self.folder, Label(*checked(generation.name, "")))
        durable.sync_tree(self.folder)
        durable.replace_json(self.folder / MANIFEST, generation.record())
        final = self.store.envs / self.id
        self.folder.rename(final)
        durable.sync_folder(self.store.envs)
        self.finished = True
        return replace(generation, folder=final)

    def _take_record(self) -> int:
        # Only the newest few: more would cost more time than hashing what they alone share.
        others = [(other.env, other.folder / RECORD_NAME) for other in self.store.list()[-3:]]
        return take_record(self.env, self.folder / RECORD_NAME, known_hashes(others))

    def keep_log(self, error: EnvError) -> None:
        """Move the log of a failed installation out of the build folder, and name it in the error."""
        if self.finished:
            return
        kept = self.store.envs / "failed-install.log"
        try:
            (self.folder / "install.log").replace(kept)
            error.log = kept
        except OSError as keeping:
            # On a full or read-only disk the log goes too; the error itself is what counts.
            self.report.log(f"the log could not be kept: {keeping}")

    def remove(self) -> None:
        """Remove the build folder; after the commit there is none."""
        if not self.finished:
            _remove(self.folder)


def _remove(path: Path) -> None:
    if path.is_dir():
        # What cannot be removed now is removed at the next start.
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)

"""What newer versions would change, and who keeps others back: looked up, nothing installed."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from env_manager.errors import EnvError, InstallStopped, UvFailed
from env_manager.fetching.wheel_sizes import WheelSizes
from env_manager.generations import Generation, Store
from env_manager.hardware import Hardware
from env_manager.keeping.diff import Change
from env_manager.planning.age import Cap, refuse_below_floors, who_caps
from env_manager.planning.catalog import Catalog, numbers
from env_manager.planning.interpreter import choose_interpreter
from env_manager.planning.plan import Plan, make_plan
from env_manager.planning.resolve import index_arguments, is_impossible
from env_manager.planning.torch_source import find_torch
from env_manager.uv import Uv

_PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True)
class Update:
    """From the versions of `before` (a generation, or the catalog) to the newest that fit together."""

    before: str
    versions: dict[str, str]
    added: dict[str, str]
    removed: dict[str, str]
    changed: tuple[Change, ...]
    capped: tuple[Cap, ...]
    pinned: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Attempt:
    """Resolves of a plan, with something more or something newer, in a folder of its own."""

    plan: Plan
    uv: Uv
    python: Path
    folder: Path

    def with_requirement(self, requirement: str) -> dict[str, str]:
        """The versions with one more requirement beside the planned ones; raises `UvFailed` with uv's explanation."""
        name = requirement.partition("==")[0]
        planned = [each for each in self._planned() if each.partition("==")[0] != name]
        return self.resolve([*planned, requirement])

    def resolve(self, requirements: Sequence[str], *extra: str) -> dict[str, str]:
        """The versions for these requirements under the plan's holds."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="attempt-") as scratch:
            folder = Path(scratch)
            (folder / "requirements.in").write_text("\n".join(requirements) + "\n", encoding="utf-8")
            holds = [] if "--no-deps" in extra else [hold.requirement for hold in self.plan.holds]
            (folder / "constraints.txt").write_text("\n".join(holds) + "\n", encoding="utf-8")
            text = self.uv.run(
                ["pip", "compile", "requirements.in", "--constraints", "constraints.txt", "--only-binary", ":all:"]
                + ["--python", str(self.python), "--no-header", "--no-annotate", "--quiet", *extra]
                + index_arguments(self.plan),
                cwd=folder,
            )
        return dict(_PIN.findall(text))

    def newest(self, names: Sequence[str]) -> dict[str, str]:
        """The newest release of each package by itself; one that the index does not have is left out."""
        try:
            return self.resolve(list(names), "--no-deps")
        except UvFailed as error:
            if not is_impossible(error) or len(names) == 1:
                if is_impossible(error):
                    return {}
                raise
            half = len(names) // 2
            return self.newest(names[:half]) | self.newest(names[half:])

    def _planned(self) -> list[str]:
        return [requirement for step in self.plan.steps for requirement in step.requirements]


def preview_update(
    store: Store,
    hardware: Hardware,
    catalog: Catalog,
    *,
    tell: Callable[[str], None] = lambda line: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Update:
    """Look for the newest versions that fit together on this machine, and compare them with the active generation.

    Raises `below-floor` where a newer release of one package would push another below its floor.
    """
    active = store.active()
    uv = Uv.create(store.cache, lambda line: None, cancelled)
    with tempfile.TemporaryDirectory(prefix="fettle-update-") as scratch:
        folder = Path(scratch)
        chosen = choose_interpreter(uv, catalog.python, store.pythons, folder)
        python = Path(chosen.path)
        tell("Looking for the build of torch for this machine")
        sizes = WheelSizes(store.wheel_sizes)
        source = find_torch(
            make_plan(hardware, catalog, python=chosen.version), catalog, uv, python, folder, sizes, True
        )
        plan = make_plan(hardware, catalog, source=source, python=chosen.version)
        attempt = Attempt(plan, uv, python, folder)
        tell("Looking for newer versions of all packages together")
        versions = _newest_together(attempt, catalog)
        refuse_below_floors(versions, catalog)
        tell("Looking for what keeps others back")
        capped = _capped(attempt, versions, catalog)
    return _compare(active, versions, capped, plan, catalog)


def _newest_together(attempt: Attempt, catalog: Catalog) -> dict[str, str]:
    built = {package.name for step in catalog.steps for package in step.packages if package.build}
    wanted: list[str] = []
    floors: list[str] = []
    for step in attempt.plan.steps:
        for requirement in step.requirements:
            name, _, version = requirement.partition("==")
            # A build of torch belongs to this machine and to exactly its release: it is not looked up by range.
            wanted.append(requirement if name in built else name)
            if name not in built:
                floors.append(f"{name}>={version}")
    try:
        return attempt.resolve([*wanted, *floors])
    except UvFailed as error:
        if not is_impossible(error):
            raise
        # What is planned fits together with itself at least; newer releases then need room below.
        return attempt.resolve(wanted)


def _capped(attempt: Attempt, versions: Mapping[str, str], catalog: Catalog) -> tuple[Cap, ...]:
    listed = [package.name for step in catalog.steps for package in step.packages]
    names = [name for name in dict.fromkeys([*listed, *(name for name, _ in catalog.newest)]) if name in versions]
    newest = attempt.newest(names)
    built = {package.name for step in catalog.steps for package in step.packages if package.build}
    holds = {hold.name: f"{hold.requirement} is held. {hold.reason}" for hold in catalog.holds}
    fixed = [f"{name}>={version}" for name, version in versions.items() if name in listed and name not in built]
    found: list[Cap] = []
    for name in names:
        here, there = versions[name].partition("+")[0], newest.get(name, "")
        if numbers(here) >= numbers(there):
            continue
        cap = Cap(name, here, there)
        if name in built:
            found.append(_capped_build(attempt, cap, versions[name]))
        else:
            others = [each for each in fixed if each.partition(">=")[0] != name]
            found.append(who_caps(partial(_beside, attempt, others), cap, holds, versions))
    return tuple(found)


def _beside(attempt: Attempt, others: Sequence[str], wanted: str) -> dict[str, str]:
    return attempt.resolve([*others, wanted])


def _capped_build(attempt: Attempt, cap: Cap, version: str) -> Cap:
    local = version[version.index("+") :] if "+" in version else ""
    reason = "its build belongs to this machine and changes with the catalog"
    try:
        attempt.resolve([f"{cap.name}=={cap.newest}{local}"], "--no-deps")
    except InstallStopped:
        raise
    except UvFailed:
        reason = f"no build {local} of {cap.newest} can be reached"
    return Cap(cap.name, cap.version, cap.newest, reason=reason)


def _compare(
    active: Generation | None, versions: Mapping[str, str], capped: tuple[Cap, ...], plan: Plan, catalog: Catalog
) -> Update:
    pins = dict(requirement.split("==") for step in plan.steps for requirement in step.requirements)
    old = active.packages if active else pins
    newer = {name: versions[name] for name in pins if name in versions and versions[name] != pins[name]}
    return Update(
        before=active.id if active else f"the catalog of {catalog.date}",
        versions=dict(versions),
        added={name: version for name, version in versions.items() if name not in old} if active else {},
        removed={name: version for name, version in old.items() if name not in versions},
        changed=tuple(
            Change(name, old[name], versions[name])
            for name in sorted(old.keys() & versions.keys())
            if old[name] != versions[name]
        ),
        capped=capped,
        pinned=newer,
    )


def require_change(update: Update) -> None:
    """Raise an EnvError where the newest versions that fit are those of the active generation."""
    if not (update.added or update.removed or update.changed):
        raise EnvError(
            "nothing-to-update",
            "The active environment has the newest versions that fit together.",
            "Look at `fettle env update --preview` for what keeps others back.",
        )

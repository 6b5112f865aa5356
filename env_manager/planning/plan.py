"""From hardware and catalog to a plan: pure, so that it can be shown before anything happens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from env_manager.errors import EnvError
from env_manager.hardware import Hardware
from env_manager.planning.catalog import Catalog, Hold, Package, Step, numbers
from env_manager.planning.torch_index import Asked, TorchChoice, choose_torch

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-z0-9]+(\.[a-z0-9]+)*)?")
TorchWhere = Literal["default-index", "configured", "pytorch-index"]


@dataclass(frozen=True)
class TorchSource:
    """Where that build was found; `has` names the packages of torch's family that were found with it."""

    where: TorchWhere
    local: str
    index_url: str | None
    has: tuple[str, ...]


@dataclass(frozen=True)
class LeftOut:
    """A package that is not installed on this machine, with its plain reason."""

    step: str
    package: str
    reason: str


@dataclass(frozen=True)
class PlannedStep:
    """A step with the exact requirements that it adds."""

    id: str
    title: str
    why: str
    optional: bool
    requirements: tuple[str, ...]
    probe: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(requirement.split("==")[0] for requirement in self.requirements)


@dataclass(frozen=True)
class Plan:
    """What would be installed on this machine, in order, and what would not."""

    catalog_date: str
    accelerator: str
    python: tuple[str, ...]
    torch: TorchChoice
    source: TorchSource | None
    steps: tuple[PlannedStep, ...]
    left_out: tuple[LeftOut, ...]
    holds: tuple[Hold, ...]
    overrides: dict[str, str]
    notes: tuple[str, ...]
    asked: Asked = field(default_factory=Asked)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def make_plan(
    hardware: Hardware,
    catalog: Catalog,
    *,
    source: TorchSource | None = None,
    overrides: Mapping[str, str] | None = None,
    without: Mapping[str, str] | None = None,
    asked: Asked = Asked(),
    python: str | None = None,
) -> Plan:
    """Plan an installation.

    `source` says where torch was found (None: not looked for yet), `overrides` replaces pins by name,
    `without` leaves out packages for a reason that was learned on the way, `asked` is the accelerator
    and GPU that the user chose, `python` the interpreter's release where it is known.
    """
    overrides = dict(overrides or {})
    _check_overrides(overrides, catalog)
    chosen = choose_torch(hardware, catalog, torch=overrides.get("torch"), python=python, asked=asked)
    accelerator = chosen.accelerator
    steps: list[PlannedStep] = []
    left_out: list[LeftOut] = []
    for step in catalog.steps:
        requirements: list[str] = []
        for package in step.packages:
            reason = (without or {}).get(package.name) or _why_not(package, hardware, accelerator, source)
            if reason:
                left_out.append(LeftOut(step.id, package.name, reason))
            else:
                requirements.append(_requirement(package, chosen, source, overrides))
        steps.append(_planned(step, tuple(requirements)))
    return Plan(
        catalog_date=catalog.date,
        accelerator=accelerator,
        python=catalog.python,
        torch=chosen,
        source=source,
        steps=tuple(steps),
        left_out=tuple(left_out),
        holds=catalog.holds,
        overrides=overrides,
        notes=(*hardware.notes, *chosen.advice),
        asked=asked,
    )


def _planned(step: Step, requirements: tuple[str, ...]) -> PlannedStep:
    return PlannedStep(step.id, step.title, step.why, step.optional, requirements, step.probe)


def _why_not(package: Package, hardware: Hardware, accelerator: str, source: TorchSource | None) -> str | None:
    reason = package.left_out or "It is not for this machine."
    if hardware.os not in package.platforms or accelerator not in package.accelerators:
        return reason
    if package.architectures and hardware.arch not in package.architectures:
        return reason
    if package.build and package.optional and source is not None and package.name not in source.has:
        return reason
    return None


def _requirement(
    package: Package, chosen: TorchChoice, source: TorchSource | None, overrides: Mapping[str, str]
) -> str:
    version = overrides.get(package.name, package.version)
    local = source.local if source else chosen.local
    if package.build and "+" not in version:
        version += local
    return f"{package.name}=={version}"


def _check_overrides(overrides: Mapping[str, str], catalog: Catalog) -> None:
    for name, version in overrides.items():
        if not _NAME.fullmatch(name):
            # It becomes a line in a file of requirements, where an address or an option means something.
            raise EnvError(
                "override-invalid", f"{name!r} is not the name of a package.", "Write it as --set name=version."
            )
        if not _VERSION.fullmatch(version):
            raise EnvError(
                "override-invalid",
                f"{version!r} is not a version that can be installed of {name}.",
                "Give one exact version, for example 0.21.1.",
            )
    for hold in catalog.holds:
        wanted = overrides.get(hold.name)
        if wanted and numbers(wanted) >= hold.below:
            raise EnvError(
                "override-held",
                f"{hold.name} {wanted} was asked for, but {hold.requirement} is held. {hold.reason}",
                "Choose a version within the bound.",
            )

"""From a plan to one hash lock for all steps, and from the lock to what each step installs."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from env_manager.errors import EnvError, UvFailed
from env_manager.planning.catalog import numbers
from env_manager.planning.plan import Plan, PlannedStep
from env_manager.uv import Uv

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOCK_NAME = "requirements.lock"
PYLOCK_NAME = "pylock.toml"
# uv writes "# via NAME" for one dependant, or "# via" and then "#   NAME" on lines of their own.
_NEEDED_BY = re.compile(r"^\s*#\s+(?:via\s+)?([a-z0-9][a-z0-9-]*)(?:\[.*\])?\s*$")


@dataclass(frozen=True)
class Locked:
    """One package of the lock: its exact version, the hashes of its wheels, the packages that need it."""

    name: str
    version: str
    hashes: tuple[str, ...]
    needed_by: frozenset[str]

    def as_requirement(self) -> str:
        """The line that installs exactly this: `===`, because `==2.13.0` also fits 2.13.0+cpu."""
        return " \\\n    ".join((f"{self.name}==={self.version}", *(f"--hash={each}" for each in self.hashes)))


@dataclass(frozen=True)
class StepInstall:
    """What one step adds to the environment: its own packages and what they need that is not there yet."""

    step: PlannedStep
    packages: tuple[Locked, ...]


@dataclass(frozen=True)
class Lock:
    """A joint resolve of all steps."""

    text: str
    packages: tuple[Locked, ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def versions(self) -> dict[str, str]:
        return {package.name: package.version for package in self.packages}


def resolve(plan: Plan, uv: Uv, python: Path, folder: Path, preferred: Mapping[str, str] | None = None) -> Lock:
    """Resolve all steps of the plan together; writes `requirements.lock` into `folder`.

    `preferred` versions bind what is needed anyway; none of them is a reason to install a package.
    """
    wanted = [requirement for step in plan.steps for requirement in step.requirements]
    roots = {requirement.split("==")[0] for requirement in wanted}
    # An override may name a package that no step lists; it then narrows what the steps pull in.
    narrowed = [f"{name}=={version}" for name, version in plan.overrides.items() if name not in roots]
    (folder / "requirements.in").write_text("\n".join(wanted) + "\n", encoding="utf-8")
    constraints = [hold.requirement for hold in plan.holds] + narrowed
    settled = {*roots, *plan.overrides}
    constraints += [f"{name}=={version}" for name, version in (preferred or {}).items() if name not in settled]
    if plan.source and not plan.source.local:
        # "torch==2.13.0" also fits 2.13.0+cpu, and a resolver prefers it, on GPU machines too.
        built = (each for each in wanted if each.split("==")[0] in plan.source.has and "+" not in each)
        constraints += [each.replace("==", "!=") + "+cpu" for each in built]
    (folder / "constraints.txt").write_text("\n".join(constraints) + "\n", encoding="utf-8")
    uv.run(
        ["pip", "compile", "requirements.in", "--constraints", "constraints.txt"]
        + ["--generate-hashes", "--only-binary", ":all:", "--python", str(python), "--no-header"]
        + ["--annotation-style", "split", "--output-file", LOCK_NAME, "--quiet"]
        + index_arguments(plan),
        cwd=folder,
    )
    lock = parse_lock((folder / LOCK_NAME).read_text(encoding="utf-8"))
    refuse_drift(plan, lock, narrowed)
    return lock


def index_arguments(plan: Plan) -> list[str]:
    """The extra index that torch comes from; the user's own indexes are in uv's environment."""
    if plan.source is None or plan.source.index_url is None:
        return []
    # Best match, because PyTorch's index also carries old copies of other packages.
    return ["--index", plan.source.index_url, "--index-strategy", "unsafe-best-match"]


def parse_lock(text: str) -> Lock:
    """Read a lock in the form that uv writes: pins, hashes, and "via" comments naming who needs them."""
    packages: list[Locked] = []
    name = version = ""
    hashes: list[str] = []
    needed_by: set[str] = set()

    def finish() -> None:
        if name:
            packages.append(Locked(name, version, tuple(hashes), frozenset(needed_by)))

    for line in text.splitlines():
        pin = re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", line)
        if pin:
            finish()
            name, version, hashes, needed_by = pin.group(1), pin.group(2), [], set()
        elif found := re.search(r"--hash=(sha256:[0-9a-f]{64})", line):
            hashes.append(found.group(1))
        else:
            needed_by |= set(_NEEDED_BY.findall(line)) - {"via"}
    finish()
    return Lock(text, tuple(packages))


def refuse_drift(plan: Plan, lock: Lock, narrowed: Iterable[str] = ()) -> None:
    """Refuse a lock that is not what was planned: another version than pinned, or a broken hold."""
    versions = lock.versions
    for requirement in (each for step in plan.steps for each in step.requirements):
        name, _, version = requirement.partition("==")
        if versions.get(name) != version:
            raise _drifted(f"{name} {version} was planned but the lock has {versions.get(name, 'none')}")
    for requirement in narrowed:
        name = requirement.split("==")[0]
        if name not in versions:
            raise EnvError(
                "override-unknown",
                f"A version of {name} was asked for, but nothing in this environment uses {name}.",
                "Check the spelling of the package's name.",
            )
    for hold in plan.holds:
        found = versions.get(hold.name)
        if found and numbers(found) >= hold.below:
            raise _drifted(f"{hold.requirement} is held but the lock has {hold.name} {found}")
    unhashed = [package.name for package in lock.packages if not package.hashes]
    if unhashed:
        raise _drifted(f"{unhashed[0]} has no hash")


def _drifted(what: str) -> EnvError:
    return EnvError(
        "lock-drifted",
        f"The resolved versions are not the planned ones: {what}.",
        "Undo the version overrides if you gave any; otherwise check the configured index.",
    )


def split_by_step(plan: Plan, lock: Lock) -> list[StepInstall]:
    """Give every locked package to the first step that needs it."""
    by_name = {package.name: package for package in lock.packages}
    needs: dict[str, list[str]] = {}
    for package in lock.packages:
        for parent in package.needed_by:
            needs.setdefault(parent, []).append(package.name)
    taken: set[str] = set()
    result: list[StepInstall] = []
    for step in plan.steps:
        open_names = [name for name in step.names if name in by_name]
        mine: list[str] = []
        while open_names:
            name = open_names.pop()
            if name not in taken and name in by_name:
                taken.add(name)
                mine.append(name)
                open_names += needs.get(name, [])
        result.append(StepInstall(step, tuple(by_name[name] for name in sorted(mine))))
    missed = sorted(set(by_name) - taken)
    if missed:
        raise _drifted(f"nothing in the plan needs {missed[0]}")
    return result


def name_wheels(uv: Uv, plan: Plan, python: Path, folder: Path) -> None:
    """Write a `pylock.toml` beside the lock in `folder`: the addresses of its wheels."""
    lock = parse_lock((folder / LOCK_NAME).read_text(encoding="utf-8"))
    exact = "\n".join(package.as_requirement() for package in lock.packages)
    (folder / "exact.in").write_text(exact + "\n", encoding="utf-8")
    uv.run(
        ["pip", "compile", "exact.in", "--no-deps", "--generate-hashes", "--only-binary", ":all:"]
        + ["--python", str(python), "--no-header", "--output-file", PYLOCK_NAME, "--quiet"]
        + index_arguments(plan),
        cwd=folder,
    )


def chosen_wheels(folder: Path) -> dict[str, str]:
    """The address of the wheel that will be installed, for each package of the `pylock.toml` in `folder`."""
    data = tomllib.loads((folder / PYLOCK_NAME).read_text(encoding="utf-8"))
    chosen: dict[str, str] = {}
    for package in data.get("packages", []):
        addresses = [wheel_address(wheel) for wheel in package.get("wheels", [])]
        if addresses:
            chosen[package["name"]] = min(addresses, key=_generality)
    return chosen


def wheel_address(wheel: Mapping[str, Any]) -> str:
    """Where a wheel of a `pylock.toml` lies: an address or a path."""
    return str(wheel.get("url") or wheel.get("path") or "")


def _generality(address: str) -> int:
    # uv takes the wheel made most closely for this interpreter and system.
    tags = unquote(address).rpartition("/")[2].removesuffix(".whl").split("-")[-3:]
    if len(tags) < 3:
        return 9
    python, abi, platform = tags
    return 3 * (platform == "any") + 2 * (abi == "none") + (abi == "abi3") + (python.startswith("py"))


def is_unreachable(error: UvFailed) -> bool:
    """Whether an answer may still come from the cache."""
    return error.code in ("index-unreachable", "index-invalid")


def is_impossible(error: UvFailed) -> bool:
    """Whether the index answered, and what was asked for cannot be had from it."""
    return error.code in ("resolve-impossible", "package-missing")


def optional_culprits(plan: Plan, error: UvFailed) -> dict[str, str]:
    """Packages of optional steps that a failed resolve names, with the reason to leave them out."""
    if not is_impossible(error):
        return {}
    words = set(re.findall(r"[A-Za-z0-9][A-Za-z0-9._-]*", error.output))
    return {
        name: f"It could not be had: {error.message}"
        for step in plan.steps
        for name in step.names
        if step.optional and name in words and name not in plan.overrides
    }

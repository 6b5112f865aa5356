"""A generation as a file that another machine can build it from: JSON, requirements or pylock.

A file from outside decides versions and hashes and nothing else: steps, probes, holds and indexes
stay those of this Fettle, and options that requirements files may carry are refused.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from env_manager import durable
from env_manager.catalog import Catalog
from env_manager.errors import EnvError, from_os
from env_manager.generations import Generation
from env_manager.hardware import Hardware
from env_manager.plan import Plan, TorchSource, make_plan
from env_manager.resolve import LOCK_NAME, Lock, Locked, index_arguments, parse_lock, refuse_drift
from env_manager.torch_index import Asked
from env_manager.uv import Uv

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Format = Literal["json", "requirements", "pylock"]
FORMATS: tuple[Format, ...] = ("json", "requirements", "pylock")
FILE_NAMES: dict[Format, str] = {"json": "generation.fettle.json", "requirements": LOCK_NAME, "pylock": "pylock.toml"}
FORMAT = 1
MOST_BYTES = 16 * 1024**2
MARK = "# fettle: "
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.IGNORECASE)
_VERSION = re.compile(r"[0-9][0-9a-z.!+_-]*", re.IGNORECASE)
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;\\]+)(\s*\\)?")
_HASH_LINE = re.compile(r"--hash=(sha256:[0-9a-f]{64})(\s*\\)?")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s\"']+@")


@dataclass(frozen=True)
class Origin:
    """The machine that a lock was made for; None where the file does not tell."""

    os: str | None = None
    arch: str | None = None
    accelerator: str | None = None
    python: str | None = None
    torch_index: str | None = None


@dataclass(frozen=True)
class Recipe:
    """A lock from elsewhere to build a generation from; `wheels` is a folder that has every file of it."""

    lock: Lock
    origin: Origin
    name: str = ""
    wheels: Path | None = None


def export(generation: Generation, format: Format) -> str:
    """The generation as the text of a file; index credentials are taken out."""
    lock = _text(generation, LOCK_NAME)
    if hashlib.sha256(lock.encode()).hexdigest() != generation.lock_sha256:
        raise _damaged(generation, "its lock was altered")
    if format == "pylock":
        return _CREDENTIALS.sub("", _text(generation, "pylock.toml"))
    origin = _origin(generation)
    if format == "requirements":
        return f"{MARK}{json.dumps(origin.__dict__)}\n{lock}"
    made = {
        "fettle": "generation",
        "format": FORMAT,
        "name": generation.name or "",
        "created": generation.created,
        "made_for": origin.__dict__,
        "packages": generation.packages,
        "lock_sha256": generation.lock_sha256,
        "lock": lock,
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _text(generation: Generation, name: str) -> str:
    try:
        return (generation.folder / name).read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(generation, f"its {name} cannot be read") from error


def _damaged(generation: Generation, why: str) -> EnvError:
    return EnvError(
        "lock-damaged",
        f"Environment {generation.id} cannot be exported: {why}.",
        "Export another environment, or install the dependencies again.",
    )


def _origin(generation: Generation) -> Origin:
    plan, hardware = generation.plan, generation.hardware
    url = (plan.get("source") or {}).get("index_url")
    return Origin(
        os=hardware.get("os"),
        arch=hardware.get("arch"),
        accelerator=plan.get("accelerator"),
        python=generation.interpreter.get("version"),
        torch_index=(plan.get("torch") or {}).get("build") if url else None,
    )


def read_recipe(path: Path) -> Recipe:
    """Read a file that `export` or uv wrote, or a wheelhouse folder; what is not one is refused with the reason."""
    if path.is_dir():
        return replace(read_recipe(path / FILE_NAMES["json"]), wheels=path.absolute())
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)  # a device tells no size and never ends
        if len(data) > MOST_BYTES:
            raise _invalid(path, "it is larger than any list of packages")
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid(path, "it is not text") from error
    except FileNotFoundError as error:
        raise EnvError(
            "manifest-missing",
            f"There is no {path}.",
            "Check the name. A folder of wheels without it is incomplete: export it again, it goes on where it stopped.",
        ) from error
    except OSError as error:
        raise from_os(error, f"read {path.name}") from error
    if text.lstrip().startswith("{"):
        return _from_json(path, text)
    if re.search(r"^lock-version\s*=", text, re.MULTILINE):
        return Recipe(_from_pylock(path, text), Origin())
    first, _, rest = text.partition("\n")
    if first.startswith(MARK):
        return Recipe(_from_requirements(path, rest), _read_origin(path, _json(path, first.removeprefix(MARK))))
    return Recipe(_from_requirements(path, text), Origin())


def _from_json(path: Path, text: str) -> Recipe:
    data = _json(path, text)
    if data.get("fettle") != "generation" or not isinstance(data.get("format"), int):
        raise _invalid(path, "it is not a generation that Fettle exported")
    if data["format"] > FORMAT:
        raise EnvError(
            "manifest-newer",
            f"{path.name} was exported by a newer version of Fettle.",
            "Update Fettle, then try again.",
        )
    lock, name = data.get("lock"), data.get("name", "")
    if not isinstance(lock, str) or not isinstance(name, str):
        raise _invalid(path, "its lock is missing")
    if hashlib.sha256(lock.encode()).hexdigest() != data.get("lock_sha256"):
        raise _invalid(path, "its lock was altered after the export")
    return Recipe(_from_requirements(path, lock), _read_origin(path, data.get("made_for")), name[:80])


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        data = durable.parse_json(text)
    except ValueError as error:
        raise _invalid(path, "it is not valid JSON") from error
    if not isinstance(data, dict):
        raise _invalid(path, "it is not a JSON object")
    return data


def _read_origin(path: Path, data: Any) -> Origin:
    known = Origin.__dataclass_fields__
    if not isinstance(data, dict) or not all(value is None or isinstance(value, str) for value in data.values()):
        raise _invalid(path, "it does not say which machine it was made for")
    return Origin(**{name: value for name, value in data.items() if name in known})


def _from_requirements(path: Path, text: str) -> Lock:
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if bare and not bare.startswith("#") and not _PIN.fullmatch(bare) and not _HASH_LINE.fullmatch(bare):
            raise _invalid(path, f"line {number} is neither `name==version` nor a hash: {bare[:80]!r}")
    return _checked(path, parse_lock(text))


def _from_pylock(path: Path, text: str) -> Lock:
    try:
        rows = tomllib.loads(text).get("packages", [])
        packages = [(str(row["name"]), str(row["version"]), _hashes_of(row)) for row in rows]
    except (tomllib.TOMLDecodeError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise _invalid(path, f"it is not a pylock file that Fettle can read ({error})") from error
    lines = []
    for name, version, hashes in sorted(packages):
        lines.append(" \\\n    ".join((f"{name}=={version}", *(f"--hash={each}" for each in hashes))))
    # The parts come from outside: they are read back from the text, and so meet the same rules.
    return _from_requirements(path, "\n".join(lines) + "\n")


def _hashes_of(row: Mapping[str, Any]) -> list[str]:
    return [f"sha256:{wheel['hashes']['sha256']}" for wheel in row.get("wheels", [])]


def _checked(path: Path, lock: Lock) -> Lock:
    if not lock.packages:
        raise _invalid(path, "it names no packages")
    names = [package.name for package in lock.packages]
    for package in lock.packages:
        if not _NAME.fullmatch(package.name) or not _VERSION.fullmatch(package.version):
            raise _invalid(path, f"{package.name[:80]!r} is not a package with an exact version")
        if not package.hashes or not all(_HASH.fullmatch(each) for each in package.hashes):
            raise _invalid(path, f"{package.name} has no hash, so its file could not be checked")
        if names.count(package.name) > 1:
            raise _invalid(path, f"{package.name} is listed twice")
    return lock


def _invalid(path: Path, why: str) -> EnvError:
    return EnvError(
        "manifest-invalid",
        f"{path.name} cannot be imported: {why}.",
        "Export the environment again, or name a file with an exact version and a hash for each package.",
    )


def plan_for(
    recipe: Recipe, hardware: Hardware, catalog: Catalog, asked: Asked = Asked(), python: str | None = None
) -> tuple[Plan, Lock]:
    """This machine's plan with the recipe's versions; refused where the lock was made for another kind of machine."""
    _refuse_foreign(recipe.origin, hardware)
    versions = recipe.lock.versions
    listed = [package for step in catalog.steps for package in step.packages]
    if not any(package.name in versions for package in listed):
        raise EnvError(
            "manifest-foreign",
            "The file names no package that training needs.",
            "Import a file that was exported from a Fettle environment.",
        )
    built = tuple(package.name for package in listed if package.build and package.name in versions)
    local = _local(versions[built[0]]) if built else ""
    index = next((each for each in catalog.torch_indexes if each.name == recipe.origin.torch_index), None)
    source = TorchSource("pytorch-index" if index else "configured", local, index.url if index else None, built)
    overrides = {
        package.name: versions[package.name]
        for package in listed
        if package.name in versions and versions[package.name] != package.version + (local if package.build else "")
    }
    missing = {
        package.name: "The imported lock does not have it." for package in listed if package.name not in versions
    }
    plan = make_plan(
        hardware,
        catalog,
        source=source if built else None,
        overrides=overrides,
        without=missing,
        asked=_as_made(recipe.origin, hardware, catalog, asked),
        python=python,
    )
    lock = with_a_home_for_each(plan, recipe.lock)
    refuse_drift(plan, lock)
    return plan, lock


def _as_made(origin: Origin, hardware: Hardware, catalog: Catalog, asked: Asked) -> Asked:
    """The build of torch that the lock has, where this machine would take another one."""
    if asked != Asked():
        return asked
    if origin.accelerator == "cpu" and hardware.accelerator != "cpu":
        return Asked("cpu")
    cuda = {index.name for index in catalog.torch_indexes if index.accelerator == "cuda"}
    return Asked(origin.torch_index) if origin.torch_index in cuda else asked


def _local(version: str) -> str:
    return version[version.index("+") :] if "+" in version else ""


def _refuse_foreign(origin: Origin, hardware: Hardware) -> None:
    for what, made, here in (
        ("system", origin.os, hardware.os),
        ("processor", origin.arch, hardware.arch),
    ):
        if made and made != here:
            raise _foreign(f"it was made for the {what} {made}, this one is {here}")
    if origin.accelerator in ("cuda", "mps") and hardware.accelerator != origin.accelerator:
        raise _foreign(f"it was made for {origin.accelerator}, which this machine does not have")


def _foreign(why: str) -> EnvError:
    return EnvError(
        "manifest-foreign",
        f"The file cannot be built here: {why}.",
        "Install the dependencies for this machine: `fettle env install`. Versions can be given with --set.",
    )


def with_reasons(plan: Plan, lock: Lock, uv: Uv, python: Path, folder: Path) -> Lock:
    """The lock with who needs each package, asked of the resolver where the file does not tell, as pylock never does.

    Without it a package that two steps need would come with the later one, too late for the earlier one's probe.
    """
    wanted = [requirement for step in plan.steps for requirement in step.requirements]
    exact = [f"{package.name}==={package.version}" for package in lock.packages]
    (folder / "requirements.in").write_text("\n".join(wanted) + "\n", encoding="utf-8")
    (folder / "constraints.txt").write_text("\n".join(exact) + "\n", encoding="utf-8")
    text = uv.run(
        ["pip", "compile", "requirements.in", "--constraints", "constraints.txt", "--only-binary", ":all:"]
        + ["--python", str(python), "--no-header", "--annotation-style", "split", "--quiet", *index_arguments(plan)],
        cwd=folder,
    )
    needed_by = {package.name: package.needed_by for package in parse_lock(text).packages}
    # Into the text too, from which a repair or the next export reads it.
    rows = [_row(package, sorted(needed_by.get(package.name, ()))) for package in lock.packages]
    return with_a_home_for_each(plan, parse_lock("".join(rows)))


def _row(package: Locked, needed_by: Sequence[str]) -> str:
    lines = [f"{package.name}=={package.version}", *(f"    --hash={each}" for each in package.hashes)]
    via = ["    # via", *(f"    #   {each}" for each in needed_by)] if needed_by else []
    return " \\\n".join(lines) + "".join(f"\n{line}" for line in via) + "\n"


def with_a_home_for_each(plan: Plan, lock: Lock) -> Lock:
    """Give packages that no step needs to the first step, so that they are there before anything is probed."""
    reached: set[str] = set()
    open_names = [name for step in plan.steps for name in step.names]
    first = open_names[0]
    while open_names:
        name = open_names.pop()
        if name not in reached:
            reached.add(name)
            open_names += [package.name for package in lock.packages if name in package.needed_by]
    packages: list[Locked] = [
        package if package.name in reached else replace(package, needed_by=package.needed_by | {first})
        for package in lock.packages
    ]
    return replace(lock, packages=tuple(packages))

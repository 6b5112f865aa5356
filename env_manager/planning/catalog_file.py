"""Reads a catalog, and refuses a broken one with the place and the reason."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from env_manager.errors import EnvError
from env_manager.planning.catalog import (
    ACCELERATORS,
    PLATFORMS,
    Catalog,
    Floor,
    Hold,
    Package,
    Step,
    TorchIndex,
    Wheels,
    numbers,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMAT = 1
BUNDLED = Path(__file__).with_name("catalog.toml")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_VERSION = re.compile(r"\d+(\.\d+)*([a-z]+\d+)?(\.post\d+)?")
_RELEASE = r"\d+\.\d+"
_MACHINES = ("linux-x86_64", "linux-aarch64", "windows-x86_64", "macos-aarch64")
_TOP_FIELDS = ("format", "date", "python", "holds", "torch_indexes", "steps", "large_wheel_bytes", "floors", "newest")
_HOLD = re.compile(r"([a-z0-9-]+)<(\d+(?:\.\d+)*)")
_FLOOR = re.compile(r"([a-z0-9-]+)>=(\d+(?:\.\d+)*)")


def load_catalog(file: Path = BUNDLED) -> Catalog:
    """Read and check a catalog; a broken one is refused with the place and the reason."""
    try:
        # Some editors put a mark before the first letter.
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(file, "it is not text in UTF-8") from error
    except OSError as error:
        raise _refused(file, f"it cannot be read: {error.strerror or error}") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _refused(file, f"it is not valid TOML: {error}") from error
    except RecursionError as error:
        raise _refused(file, "it is nested too deeply") from error
    return parse_catalog(data, file)


def parse_catalog(data: dict[str, Any], file: Path = BUNDLED) -> Catalog:
    """Check the parsed TOML of a catalog; `file` names it in errors."""
    reader = _Reader(file)
    if data.get("format") != FORMAT:
        raise _refused(file, f"its format is {data.get('format')!r}; this version of Fettle reads format {FORMAT}")
    top = reader.record(data, "the catalog", set(_TOP_FIELDS))
    catalog = Catalog(
        date=reader.text(top, "date", "the catalog"),
        python=reader.texts(top, "python", "the catalog", r"3\.\d+"),
        holds=tuple(reader.hold(item) for item in reader.records(top, "holds")),
        torch_indexes=tuple(reader.index(item) for item in reader.records(top, "torch_indexes")),
        steps=tuple(reader.step(item) for item in reader.records(top, "steps")),
        large_wheel_bytes=reader.count(top, "large_wheel_bytes", Catalog.large_wheel_bytes),
        floors=tuple(reader.floor(item) for item in reader.records(top, "floors")),
        newest=reader.versions(top, "newest"),
    )
    _check_whole(catalog, file)
    return catalog


def _refused(file: Path, reason: str) -> EnvError:
    return EnvError(
        "catalog-invalid",
        f"The catalog {file.name} cannot be used: {reason}.",
        "Undo the last change to it, or install Fettle again.",
    )


def _check_whole(catalog: Catalog, file: Path) -> None:
    if not catalog.steps:
        raise _refused(file, "it has no steps")
    if not catalog.python:
        raise _refused(file, "it names no Python version")
    for what, names in (
        ("step", [step.id for step in catalog.steps]),
        ("package", [package.name for step in catalog.steps for package in step.packages]),
        ("floor", [floor.name for floor in catalog.floors]),
        ("torch index", [index.name for index in catalog.torch_indexes]),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise _refused(file, f"{what} {twice[0]!r} is listed twice")
    for index in catalog.torch_indexes:
        both = shared_release(index)
        if both:
            raise _refused(file, f"torch index {index.name!r} lists torch {both} twice for the same machine")
    _check_bounds(catalog, file)


def _check_bounds(catalog: Catalog, file: Path) -> None:
    holds = {hold.name: hold for hold in catalog.holds}
    floors = {floor.name: floor for floor in catalog.floors}
    for step in catalog.steps:
        for package in step.packages:
            hold = holds.get(package.name)
            if hold and numbers(package.version) >= hold.below:
                raise _refused(file, f"{package.name} {package.version} breaks the hold {hold.requirement}")
            floor = floors.get(package.name)
            if floor and numbers(package.version) < floor.least:
                raise _refused(file, f"{package.name} {package.version} is below the floor {floor.requirement}")


def shared_release(index: TorchIndex) -> str | None:
    """A release that two rows of an index claim for one machine, so that it would be unclear which holds."""
    for at, row in enumerate(index.wheels):
        for other in index.wheels[at + 1 :]:
            first = max(row.torch[0], other.torch[0], key=numbers)
            last = min(row.torch[1], other.torch[1], key=numbers)
            if set(row.machines) & set(other.machines) and numbers(first) <= numbers(last):
                return first
    return None


class _Reader:
    """Turns tables into dataclasses, naming the table and the field in every refusal."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def refuse(self, reason: str) -> EnvError:
        return _refused(self.file, reason)

    def record(self, data: Any, where: str, known: set[str]) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise self.refuse(f"{where} is not a table")
        unknown = sorted(set(data) - known)
        if unknown:
            raise self.refuse(f"{where} has an unknown field {unknown[0]!r}")
        return data

    def records(self, data: dict[str, Any], key: str) -> list[Any]:
        value = data.get(key, [])
        if not isinstance(value, list):
            raise self.refuse(f"{key} is not a list of tables")
        return value

    def text(self, data: dict[str, Any], key: str, where: str, pattern: str = r"(?s).+") -> str:
        value = data.get(key)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise self.refuse(f"{where}: {key} is {'missing' if value is None else f'not valid: {value!r}'}")
        return value

    def optional_text(self, data: dict[str, Any], key: str, where: str) -> str | None:
        return self.text(data, key, where) if key in data else None

    def count(self, data: dict[str, Any], key: str, default: int) -> int:
        value = data.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.refuse(f"{key} is not a whole number: {value!r}")
        return value

    def flag(self, data: dict[str, Any], key: str, where: str) -> bool:
        value = data.get(key, False)
        if not isinstance(value, bool):
            raise self.refuse(f"{where}: {key} is not true or false")
        return value

    def texts(self, data: dict[str, Any], key: str, where: str, pattern: str) -> tuple[str, ...]:
        value = data.get(key)
        if not isinstance(value, list) or not all(
            isinstance(item, str) and re.fullmatch(pattern, item) for item in value
        ):
            raise self.refuse(f"{where}: {key} is {'missing' if value is None else f'not valid: {value!r}'}")
        return tuple(value)

    def some_of(self, data: dict[str, Any], key: str, where: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
        return self.texts(data, key, where, "|".join(allowed)) if key in data else allowed

    def hold(self, data: Any) -> Hold:
        item = self.record(data, "a hold", {"requirement", "reason"})
        requirement = self.text(item, "requirement", "a hold", _HOLD.pattern)
        return Hold(requirement, self.text(item, "reason", f"hold {requirement}"))

    def floor(self, data: Any) -> Floor:
        item = self.record(data, "a floor", {"requirement", "reason"})
        requirement = self.text(item, "requirement", "a floor", _FLOOR.pattern)
        return Floor(requirement, self.text(item, "reason", f"floor {requirement}"))

    def versions(self, data: dict[str, Any], key: str) -> tuple[tuple[str, str], ...]:
        table = data.get(key, {})
        if not isinstance(table, dict):
            raise self.refuse(f"{key} is not a table")
        for name, version in table.items():
            if not _NAME.fullmatch(name) or not isinstance(version, str) or not _VERSION.fullmatch(version):
                raise self.refuse(f"{key}: {name} = {version!r} is not a package with a version")
        return tuple(sorted(table.items()))

    def index(self, data: Any) -> TorchIndex:
        known = set(TorchIndex.__dataclass_fields__)
        item = self.record(data, "a torch index", known)
        where = f"torch index {item.get('name')!r}"
        return TorchIndex(
            name=self.text(item, "name", where),
            url=self.text(item, "url", where, r"https?://\S+"),
            local=self.text(item, "local", where, r"\+[a-z0-9.]+"),
            accelerator=self.text(item, "accelerator", where, "|".join(ACCELERATORS)),
            default_on=self.some_of(item, "default_on", where, PLATFORMS) if "default_on" in item else (),
            linux_driver=self.optional_text(item, "linux_driver", where),
            windows_driver=self.optional_text(item, "windows_driver", where),
            wheels=tuple(self.wheels(each, where) for each in self.records(item, "wheels")),
        )

    def wheels(self, data: Any, index: str) -> Wheels:
        item = self.record(data, f"wheels of {index}", set(Wheels.__dataclass_fields__))
        where = f"{index}, wheels of torch {item.get('torch')!r}"
        return Wheels(
            torch=self.span(item, "torch", where),
            python=self.span(item, "python", where),
            machines=self.texts(item, "machines", where, "|".join(_MACHINES)),
            sm=self.texts(item, "sm", where, _RELEASE) if "sm" in item else (),
            default_on=self.texts(item, "default_on", where, "|".join(_MACHINES)) if "default_on" in item else (),
            experimental=self.flag(item, "experimental", where),
            glibc=self.text(item, "glibc", where, _RELEASE) if "glibc" in item else None,
            macos=self.text(item, "macos", where, r"\d+") if "macos" in item else None,
        )

    def span(self, data: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
        ends = self.texts(data, key, where, _RELEASE)
        if len(ends) != 2 or numbers(ends[0]) > numbers(ends[1]):
            raise self.refuse(f"{where}: {key} is not a first and a last release")
        return ends

    def step(self, data: Any) -> Step:
        item = self.record(data, "a step", set(Step.__dataclass_fields__))
        where = f"step {item.get('id')!r}"
        packages = tuple(self.package(each, where) for each in self.records(item, "packages"))
        if not packages:
            raise self.refuse(f"{where} has no packages")
        return Step(
            id=self.text(item, "id", where, _NAME.pattern),
            title=self.text(item, "title", where),
            why=self.text(item, "why", where),
            packages=packages,
            probe=self.texts(item, "probe", where, r"[a-z0-9_:.]+"),
            optional=self.flag(item, "optional", where),
        )

    def package(self, data: Any, step: str) -> Package:
        item = self.record(data, f"a package of {step}", set(Package.__dataclass_fields__))
        where = f"{step}, package {item.get('name')!r}"
        package = Package(
            name=self.text(item, "name", where, _NAME.pattern),
            version=self.text(item, "version", where, _VERSION.pattern),
            platforms=self.some_of(item, "platforms", where, PLATFORMS),
            architectures=self.texts(item, "architectures", where, r"\w+") if "architectures" in item else (),
            accelerators=self.some_of(item, "accelerators", where, ACCELERATORS),
            build=self.text(item, "build", where, "torch") if "build" in item else None,
            optional=self.flag(item, "optional", where),
            left_out=self.optional_text(item, "left_out", where),
        )
        narrowed = {"platforms", "architectures", "accelerators"} & set(item)
        if (narrowed or package.optional) and not package.left_out:
            raise self.refuse(f"{where}: left_out must say why it is not for every machine")
        return package

"""A generation as a file that another machine can build it from: JSON, requirements or pylock.

A file from outside decides versions and hashes and nothing else: steps, probes, holds and indexes
stay those of this Fettle, and options that requirements files may carry are refused.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from env_manager import durable
from env_manager.errors import EnvError, from_os
from env_manager.generations import Generation
from env_manager.planning.resolve import LOCK_NAME, Lock, parse_lock

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

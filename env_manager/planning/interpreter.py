"""Chooses the Python that an environment is built on, and tells why."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from env_manager.errors import EnvError, InstallStopped, UvFailed
from env_manager.hardware.outside import Outside
from env_manager.hardware.system import true_arch
from env_manager.uv import Uv


@dataclass(frozen=True)
class Interpreter:
    """An interpreter outside any virtual environment, and why this one; `identity` changes when its file does."""

    path: str
    version: str
    reason: str
    identity: str = ""

    @classmethod
    def found(cls, path: str, version: str, reason: str) -> Interpreter:
        """An interpreter that is there now."""
        return cls(path, version, reason, identity_of(path))

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def identity_of(path: str | Path) -> str:
    """The real file of an interpreter with size and time: an upgrade of the system replaces it below the same name."""
    real = os.path.realpath(path)
    try:
        status = os.stat(real)
    except OSError:
        return ""
    return f"{real} {status.st_size} {status.st_mtime_ns}"


def still_best(used: Iterable[Mapping[str, str]], versions: Sequence[str]) -> Interpreter | None:
    """The first recorded interpreter of the preferred version that is unchanged, so that none has to be looked for."""
    for record in used:
        unchanged = record.get("identity") and record["identity"] == identity_of(record.get("path", ""))
        if unchanged and record.get("version") == versions[0]:
            return Interpreter(**record)
    return None


@dataclass(frozen=True)
class Candidate:
    """An interpreter on this machine, and why it can or cannot carry an environment."""

    path: str
    version: str
    fits: bool
    why: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def choose_interpreter(uv: Uv, versions: Sequence[str], own_folder: Path, cwd: Path) -> Interpreter:
    """The first of `versions` that is on this machine, else the first that uv can fetch into `own_folder`."""
    own = uv.with_environ(UV_PYTHON_INSTALL_DIR=str(own_folder))
    for version in versions:
        # Where uv or the user keeps interpreters first, then what was fetched for Fettle.
        for finder in (uv, own):
            path = _find(finder, version, cwd)
            if path:
                return Interpreter.found(path, version, _why_found(version, versions))
    _fetch(own, versions, cwd)
    path = _find(own, versions[0], cwd)
    if path is None:
        raise EnvError(
            "python-missing",
            f"No {_listed(versions)} was found, and none could be downloaded.",
            "Install Python 3.11 (for example from your system's package manager), then try again.",
        )
    return Interpreter.found(path, versions[0], f"Python {versions[0]} was fetched: {_listed(versions)} was not here.")


def _fetch(own: Uv, versions: Sequence[str], cwd: Path) -> None:
    try:
        own.run(["python", "install", _request(versions[0]), "--no-bin"], cwd=cwd)
    except UvFailed as error:
        if not error.code.startswith("index-"):
            raise
        # It is not the index of packages that was asked.
        raise UvFailed(
            "python-missing",
            f"No {_listed(versions)} was found, and none could be fetched: {_why(error)}",
            "Install one of them, for example from your system's package manager, then try again.",
            error.output,
        ) from error


def _why(error: UvFailed) -> str:
    return error.message.partition("(")[2].rpartition(")")[0] or error.message


def _why_found(version: str, versions: Sequence[str]) -> str:
    missing = versions[: list(versions).index(version)]
    if missing:
        return f"Python {version} is on this machine; {_listed(missing)}, which goes before it, is not."
    return f"Python {version} is on this machine, and goes before all others."


def _listed(versions: Sequence[str]) -> str:
    return " or ".join(f"Python {version}" for version in versions)


def _request(version: str) -> str:
    # Translated by Rosetta, uv would take an Intel Python, for which there is no torch.
    outside = Outside.here()
    return f"cpython-{version}-macos-{true_arch(outside)}" if outside.system == "macos" else f"cpython-{version}"


def _find(uv: Uv, version: str, cwd: Path) -> str | None:
    try:
        arguments = ["python", "find", _request(version), "--system", "--no-python-downloads"]
        return uv.run(arguments, cwd=cwd).strip() or None
    except InstallStopped:
        raise
    except UvFailed as error:
        if error.code == "index-setting":
            raise  # uv did not even look
        return None


def candidates(uv: Uv, versions: Sequence[str], cwd: Path) -> tuple[Candidate, ...]:
    """Every interpreter that uv sees on this machine, those that fit first."""
    listed = uv.run(["python", "list", "--only-installed", "--output-format", "json"], cwd=cwd)
    found = parse_python_list(listed, versions, true_arch(Outside.here()))
    return tuple(sorted(found, key=lambda each: not each.fits))


def parse_python_list(output: str, versions: Sequence[str], arch: str) -> tuple[Candidate, ...]:
    """uv's JSON list of interpreters, each judged by implementation, build, release and architecture."""
    found = []
    for row in json.loads(output):
        release = ".".join(row["version"].split(".")[:2])
        if row["implementation"] != "cpython":
            why = f"It is {row['implementation']}; wheels are made for CPython."
        elif row.get("variant", "default") != "default":
            why = f"It is a {row['variant']} build, for which few wheels exist."
        elif release not in versions:
            why = f"The packages are proved on Python {', '.join(sorted(versions, key=_minor))} only."
        elif row["arch"] != arch:
            why = f"It is made for {row['arch']}, this machine is {arch}."
        else:
            why = ""
        found.append(Candidate(row["path"], row["version"], not why, why or "It fits."))
    return tuple(found)


def _minor(version: str) -> int:
    return int(version.split(".")[1])

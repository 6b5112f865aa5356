"""Chooses the Python that an environment is built on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from env_manager.errors import EnvError, InstallStopped, UvFailed
from env_manager.uv import Uv


@dataclass(frozen=True)
class Interpreter:
    """An interpreter outside any virtual environment, and why this one."""

    path: str
    version: str
    reason: str


def choose_interpreter(uv: Uv, versions: Sequence[str], own_folder: Path, cwd: Path) -> Interpreter:
    """The first of `versions` that is on this machine, else the first that uv can fetch into `own_folder`."""
    own = uv.with_environ(UV_PYTHON_INSTALL_DIR=str(own_folder))
    for version in versions:
        # Where uv or the user keeps interpreters first, then what was fetched for Fettle.
        for finder in (uv, own):
            path = _find(finder, version, cwd)
            if path:
                return Interpreter(path, version, f"Python {version} is on this machine.")
    own.run(["python", "install", versions[0], "--no-bin"], cwd=cwd)
    path = _find(own, versions[0], cwd)
    if path is None:
        raise EnvError(
            "python-missing",
            "No Python 3.10, 3.11 or 3.12 was found, and none could be downloaded.",
            "Install Python 3.11 (for example from your system's package manager), then try again.",
        )
    return Interpreter(path, versions[0], f"Python {versions[0]} was fetched: none that fits was here.")


def _find(uv: Uv, version: str, cwd: Path) -> str | None:
    try:
        arguments = ["python", "find", f"cpython-{version}", "--system", "--no-python-downloads"]
        return uv.run(arguments, cwd=cwd).strip() or None
    except InstallStopped:
        raise
    except UvFailed:
        return None

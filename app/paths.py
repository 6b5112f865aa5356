"""Where things are: everything large lies under one folder, `FETTLE_HOME`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from app.errors import AppError


@dataclass(frozen=True)
class Home:
    """The folder that holds environments, caches, runs and logs."""

    root: Path

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def installs(self) -> Path:
        return self.root / "installs"

    @property
    def trainers(self) -> Path:
        return self.root / "trainers"


def default_root() -> Path:
    """`FETTLE_HOME`, or this system's place for an application's data."""
    chosen = os.environ.get("FETTLE_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "Fettle"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "Fettle"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "fettle"


def open_home() -> Home:
    """The home folder, made if missing; raises `AppError` when it cannot be written."""
    home = Home(default_root())
    try:
        for folder in (home.root, home.runs, home.installs, home.trainers):
            folder.mkdir(parents=True, exist_ok=True)
        probe = home.root / ".writable"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise AppError(
            "home-unwritable",
            f"Fettle cannot write to its folder {home.root}: {error.strerror}.",
            "Free space or mend its permissions, or name another folder in FETTLE_HOME.",
        ) from error
    return home

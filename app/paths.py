"""Where things are: everything large lies under one folder, `FETTLE_HOME`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from app.errors import AppError
from env_manager import durable
from env_manager.keeping.relocate import relocate

LOCK = "app.lock"  # held by the window or server that has the folder open


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

    @property
    def token_cache(self) -> Path:
        return self.root / "cache" / "tokens"


def default_root() -> Path:
    """`FETTLE_HOME`, else where the folder was moved to, else this system's place for an application's data."""
    chosen = os.environ.get("FETTLE_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    noted = _noted()
    # While a move runs both places are noted: the old one counts until the new one is there.
    return next((place for place in noted if place.is_dir()), noted[0]) if noted else system_root()


def system_root() -> Path:
    """This system's place for an application's data."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "Fettle"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "Fettle"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "fettle"


def location_file() -> Path:
    """The note of where the folder was moved to; it lies beside the place where the folder would be."""
    place = system_root()
    return place.with_name(f"{place.name}-home.json")


def note_location(new: Path, old: Path | None = None) -> None:
    """Remember where the folder lies; with `old`, that it is on its way."""
    file = location_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    durable.replace_json(file, [str(place) for place in (new, old) if place])


def _noted() -> list[Path]:
    try:
        places = durable.read_json(location_file())
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        places = None
    if isinstance(places, list) and places and all(isinstance(each, str) for each in places):
        found = [Path(each) for each in places]
        if all(each.is_absolute() for each in found):
            return found
    raise AppError(
        "home-note-damaged",
        f"The note {location_file()} should name the folder of Fettle and holds something else.",
        'Write the folder into it as ["path"], or delete the note to begin with an empty folder.',
    )


def open_home() -> Home:
    """The home folder, made if missing; raises `AppError` when it cannot be written."""
    home = Home(default_root())
    _require_usable(home.root)
    noted = [] if os.environ.get("FETTLE_HOME") else _noted()
    if noted and not home.root.is_dir():
        # Making an empty folder there would look as if everything were lost.
        raise AppError(
            "home-missing",
            f"Fettle's folder {home.root} is not there; its disk may not be connected.",
            f"Connect the disk, or delete the note {location_file()} to begin with an empty folder.",
        )
    try:
        if len(noted) > 1:
            _finish_move(home.root, noted)
        for folder in (home.root, home.runs, home.installs, home.trainers, home.token_cache):
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


def _require_usable(root: Path) -> None:
    try:
        os.fspath(root).encode()
    except UnicodeEncodeError as error:
        # Records and configuration files are text, and could not name it.
        raise AppError(
            "home-name",
            f"The name of Fettle's folder {os.fspath(root)!r} is not readable text.",
            "Rename the folder, or name another one in FETTLE_HOME.",
        ) from error
    if root.is_symlink() and not root.exists():
        raise AppError(
            "home-missing",
            f"Fettle's folder {root} leads to {os.readlink(root)}, which is not there; its disk may not be connected.",
            "Connect the disk, or change the link.",
        )


def _finish_move(root: Path, noted: list[Path]) -> None:
    """After a kill in the middle of a move: whichever folder is there is whole but for links to the other place."""
    for other in noted:
        if other != root:
            relocate(root, other)
    note_location(root)

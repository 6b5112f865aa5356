"""Put Fettle into the desktop's menu: `python3 installers/linux/install.py`; `--uninstall` takes it out again.

Writes one desktop entry and one icon below XDG_DATA_HOME, for this user only. The entry starts this checkout, so
the checkout stays where it is. Standard library only, for whatever Python the system has (3.10 or newer).

Format: Desktop Entry Specification 1.1 (keys) and 1.5 (quoting) and Icon Theme Specification 0.13.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "fettle"
ICON = Path(__file__).resolve().with_name("fettle.svg")
NAME = "fettle"
RESERVED = frozenset(" \"'\\><~|&;$*?#()`")  # what makes a word of Exec need quotes
ENTRY = """[Desktop Entry]
Type=Application
Version=1.1
Name=Fettle
GenericName=Model Fine-Tuning
Comment=Fine-tune language models with LoRA on this machine
TryExec={try_exec}
Exec={exec}
Icon=fettle
Terminal=false
Categories=Science;ArtificialIntelligence;
Keywords=LoRA;fine-tuning;training;model;
"""


class Refused(Exception):
    """A failure the user can act on; shown without a traceback."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy


def main(arguments: list[str]) -> int:
    """Install or uninstall; returns the exit status."""
    parser = argparse.ArgumentParser(description="Put Fettle into the desktop's menu.")
    parser.add_argument("--uninstall", action="store_true", help="take it out again; data and environments stay")
    uninstalling = parser.parse_args(arguments).uninstall
    try:
        done = uninstall() if uninstalling else install()
    except Refused as error:
        print(f"error: {error.message}\n  {error.remedy}  [{error.code}]", file=sys.stderr)
        return 1
    print(done)
    return 0


def install() -> str:
    """Write entry and icon, replacing older ones; returns what to tell the user."""
    if not os.access(LAUNCHER, os.X_OK) or not ICON.is_file():
        raise Refused(
            "checkout-incomplete",
            f"{ROOT} has no program `fettle` that can be started, or no icon for it.",
            "Run this from a whole checkout, and make `fettle` executable.",
        )
    text = ENTRY.format(try_exec=escaped(str(LAUNCHER)), exec=escaped(quoted(str(LAUNCHER))))
    try:
        replace(icon_file(), ICON.read_bytes())
        replace(entry_file(), text.encode())
        # Desktops look into a theme again when its folder is newer than their cache of it.
        os.utime(icon_theme())
    except OSError as error:
        raise unwritable(error) from error
    return f"Fettle is in the menu now: {entry_file()}"


def uninstall() -> str:
    """Remove entry and icon; returns what to tell the user."""
    if not entry_file().exists() and not icon_file().exists():
        return "Fettle was not in the menu."
    other = started_by_entry()
    if other is not None and other != LAUNCHER and other.exists():
        raise Refused(
            "entry-foreign",
            f"The menu's entry starts another checkout: {other}.",
            "Run the `installers/linux/install.py --uninstall` of that one.",
        )
    try:
        entry_file().unlink(missing_ok=True)
        icon_file().unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(error) from error
    return "Fettle is no longer in the menu. Its data, environments and runs are untouched."


def data_home() -> Path:
    """XDG_DATA_HOME; a relative one does not count, as the XDG specification says."""
    named = os.environ.get("XDG_DATA_HOME", "")
    return Path(named) if os.path.isabs(named) else Path.home() / ".local" / "share"


def entry_file() -> Path:
    """The desktop entry."""
    return data_home() / "applications" / f"{NAME}.desktop"


def icon_theme() -> Path:
    """The theme that every desktop falls back to."""
    return data_home() / "icons" / "hicolor"


def icon_file() -> Path:
    """The icon, found by its name `fettle`."""
    return icon_theme() / "scalable" / "apps" / f"{NAME}.svg"


def quoted(path: str) -> str:
    """A path as the first word of Exec: in double quotes where it needs them, with % doubled."""
    if "=" in path or any(ord(letter) < 32 for letter in path):
        raise Refused(
            "path-unusable",
            f"A desktop entry cannot start a program at {path!r}: its path holds = or a control character.",
            "Move the checkout to a folder without them.",
        )
    if not RESERVED.intersection(path):
        return path.replace("%", "%%")
    marked = "".join("\\" + letter if letter in '"`$\\' else letter for letter in path)
    return '"' + marked.replace("%", "%%") + '"'


def escaped(value: str) -> str:
    """A value of type string: a backslash is written twice."""
    return value.replace("\\", "\\\\")


def started_by_entry() -> Path | None:
    """The program that the present entry names; None when there is none to read."""
    try:
        lines = entry_file().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    named = next((line.partition("=")[2] for line in lines if line.startswith("TryExec=")), "")
    return Path(named.replace("\\\\", "\\")) if named else None


def replace(target: Path, content: bytes) -> None:
    """Write a file whole, so that a menu never reads half an entry."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{NAME}-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chmod(partial, 0o644)
        os.replace(partial, target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def unwritable(error: OSError) -> Refused:
    """The refusal for a folder or file that cannot be written."""
    where = error.filename or data_home()
    return Refused(
        "menu-unwritable",
        f"The menu's files could not be written: {error.strerror or error} ({where}).",
        "Make the folder writable for your user, or name another one in XDG_DATA_HOME.",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

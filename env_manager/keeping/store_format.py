"""The version of the layout of `envs/`: a newer one is refused, an older one brought up to date."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from env_manager import durable
from env_manager.errors import EnvError, from_os
from env_manager.keeping.labels import Label, write_label

FORMAT = 1
FILE = "format"
_MOST_DIGITS = 10


def layout(envs: Path) -> int:
    """The version of a folder of environments; 0 where none was written, as before versions were."""
    try:
        text = (envs / FILE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return 0
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError):
            raise from_os(error, "read the version of the folder for environments") from error
        text = ""
    if not (text.isascii() and text.isdigit() and len(text) < _MOST_DIGITS):
        raise EnvError(
            "store-damaged",
            f"The file {envs / FILE} should hold one number, the version of this folder, and holds something else.",
            f"Write {FORMAT} into it if nothing but this version of Fettle has used the folder.",
        )
    return int(text)


def require_known(envs: Path) -> int:
    """The version of the layout; a newer one is refused before anything in it is believed."""
    found = layout(envs)
    if found > FORMAT:
        raise EnvError(
            "store-newer",
            f"The environments in {envs} were made by a newer version of Fettle (layout {found}, known is {FORMAT}).",
            "Update Fettle, or name another folder in FETTLE_HOME. Nothing was changed.",
        )
    return found


def is_older(envs: Path) -> bool:
    """Whether there is something to bring up to date; what cannot be read is told where it is used."""
    try:
        return envs.is_dir() and layout(envs) < FORMAT
    except EnvError:
        return False


def bring_up_to_date(envs: Path) -> None:
    """Migrate step by step; the caller holds the install lock. A step that was cut off is done again."""
    try:
        for version in range(require_known(envs), FORMAT):
            _STEPS[version](envs)
            durable.replace_text(envs / FILE, f"{version + 1}\n")
    except OSError as error:
        raise from_os(error, "bring the folder for environments up to date") from error


def _names_into_labels(envs: Path) -> None:
    # In layout 0 the name stood in generation.json, which nothing may change once it is written.
    for record in sorted(envs.glob("[!.]*/generation.json")):
        try:
            name = durable.read_json(record).get("name")
        except (OSError, ValueError, AttributeError):
            continue  # it is reported where environments are listed
        if isinstance(name, str) and name:
            write_label(record.parent, Label(name=name))


_STEPS: dict[int, Callable[[Path], None]] = {0: _names_into_labels}

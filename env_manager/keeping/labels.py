"""What a user says about a generation: its name, a note, whether it is pinned. Kept beside its record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from env_manager import durable
from env_manager.errors import EnvError

FILE = "label.json"
MOST_NAME = 80
MOST_NOTE = 2000


@dataclass(frozen=True)
class Label:
    """A name of one line, a note of any, and whether a keep policy must leave the generation alone."""

    name: str = ""
    note: str = ""
    pinned: bool = False


def read_label(folder: Path) -> Label:
    """The label of a generation; one that cannot be read counts as pinned, so that nothing is lost by it."""
    try:
        label = Label(**durable.read_json(folder / FILE))
    except FileNotFoundError:
        return Label()
    except (OSError, ValueError, TypeError):
        return Label(pinned=True)
    return label if _sound(label) else Label(pinned=True)


def _sound(label: Label) -> bool:
    # An edited name reaches the terminal: it must not move the cursor there, nor fill the screen.
    return (
        isinstance(label.name, str)
        and isinstance(label.note, str)
        and isinstance(label.pinned, bool)
        and _fits(label.name, label.note)
    )


def _fits(name: str, note: str) -> bool:
    return len(name) <= MOST_NAME and len(note) <= MOST_NOTE and name.isprintable()


def write_label(folder: Path, label: Label) -> None:
    """Replace the label in one step."""
    durable.replace_json(folder / FILE, asdict(label))


def checked(name: str, note: str) -> tuple[str, str]:
    """Name and note as they may be kept: trimmed, printable, not endless."""
    name, note = name.strip(), note.strip()
    if not _fits(name, note):
        raise EnvError(
            "label-invalid",
            f"A name is one line of at most {MOST_NAME} characters, a note at most {MOST_NOTE}.",
            "Shorten it.",
        )
    return name, note

"""What was found wrong with a generation's files, kept beside its record so that no rollback leads to it unasked."""

from __future__ import annotations

from pathlib import Path

from env_manager import durable

FILE = "damage.json"


def read_damage(folder: Path) -> str:
    """What was last found wrong with the generation in this folder; "" where nothing is known."""
    try:
        evidence = durable.read_json(folder / FILE)["evidence"]
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError):
        return "A check found it damaged; the note of what it was cannot be read."
    return str(evidence)


def note_damage(folder: Path, evidence: str) -> None:
    """Remember what was found; a home that cannot be written only has it found anew each time."""
    try:
        durable.replace_json(folder / FILE, {"evidence": evidence})
    except OSError:
        return


def forget_damage(folder: Path) -> None:
    """Take the note away after a check of everything found nothing."""
    try:
        (folder / FILE).unlink(missing_ok=True)
    except OSError:
        return

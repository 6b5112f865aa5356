"""One finished environment and what was recorded of it."""

from __future__ import annotations

import calendar
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from env_manager import durable
from env_manager.errors import EnvError
from env_manager.keeping.labels import read_label
from env_manager.proving.damage import read_damage
from env_manager.shape import RECORD, fits

FORMAT = 1
MANIFEST = "generation.json"
BUILD_PREFIX = ".build-"


@dataclass(frozen=True)
class Generation:
    """A finished environment: proved, named, never changed again."""

    id: str
    created: str
    folder: Path
    packages: dict[str, str]
    name: str | None = None
    note: str = ""
    pinned: bool = False
    damage: str = ""  # what a check or a repair found wrong with its files
    # Counts up with each generation of a folder: the order that a clock set back does not disturb.
    serial: int = 0
    hardware: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, str] = field(default_factory=dict)
    lock_sha256: str = ""
    interpreter: dict[str, str] = field(default_factory=dict)
    steps: tuple[dict[str, Any], ...] = ()
    checks: tuple[dict[str, Any], ...] = ()
    probes: tuple[str, ...] = ()
    # What decided its lock; what its checks hold for, and the generation that was probed where this one was not.
    decided_by: str = ""
    proof: str = ""
    proved_by: str | None = None
    bytes: int = 0
    # What it was reckoned to take on the disk before it was built.
    bytes_estimated: int = 0
    seconds: float = 0.0

    @property
    def env(self) -> Path:
        return self.folder / "env"

    @property
    def created_at(self) -> float:
        """When it was made, in seconds since 1970."""
        return calendar.timegm(time.strptime(self.created, "%Y-%m-%dT%H:%M:%SZ"))

    @property
    def python(self) -> Path:
        """The interpreter of this environment."""
        return self.env / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def as_json(self) -> dict[str, Any]:
        """Everything recorded, its label, and where the interpreter is now."""
        label = {"name": self.name, "note": self.note, "pinned": self.pinned, "damage": self.damage}
        return self.record() | label | {"python": str(self.python)}

    def record(self) -> dict[str, Any]:
        """What generation.json holds: no absolute path of the generation, so that it may be moved."""
        return {
            "format": FORMAT,
            "id": self.id,
            "created": self.created,
            "serial": self.serial,
            "packages": self.packages,
            "hardware": self.hardware,
            "plan": self.plan,
            "overrides": self.overrides,
            "lock_sha256": self.lock_sha256,
            "interpreter": self.interpreter,
            "steps": list(self.steps),
            "checks": list(self.checks),
            "probes": list(self.probes),
            "decided_by": self.decided_by,
            "proof": self.proof,
            "proved_by": self.proved_by,
            "bytes": self.bytes,
            "bytes_estimated": self.bytes_estimated,
            "seconds": self.seconds,
        }

    def sound(self) -> Generation:
        """Itself, if its fields are of the kinds that everything else relies on; else ValueError."""
        if (
            fits(self.record(), RECORD)
            and all(0 <= each < math.inf for each in (self.serial, self.bytes, self.seconds))
            and self.created_at >= 0
            and self.id.removeprefix(BUILD_PREFIX) == self.folder.name.removeprefix(BUILD_PREFIX)
        ):
            return self
        raise ValueError("a field of another kind, or the id of another folder")

    def require_interpreter(self) -> None:
        """Raise `interpreter-missing` where the Python that the environment was built on is gone."""
        if os.path.exists(self.python):  # which is also False where a folder on the way is closed to this user
            return
        was = self.interpreter.get("path") or "its Python"
        raise EnvError(
            "interpreter-missing",
            f"Environment {self.id} was built on {was}, which cannot be found; a system upgrade may have removed it.",
            "Repair it with `fettle env repair`, or install the dependencies again: packages come from the cache.",
        )

    @classmethod
    def load(cls, folder: Path) -> Generation:
        """Read a finished generation; a broken or newer one is refused with the reason."""
        try:
            data = durable.read_json(folder / MANIFEST)
            if data["format"] > FORMAT:
                raise EnvError(
                    "generation-newer",
                    f"Environment {folder.name} was made by a newer version of Fettle.",
                    "Update Fettle, or use another environment.",
                )
            fields = {name: data[name] for name in data if name in cls.__dataclass_fields__}
            for name in ("steps", "checks", "probes"):
                fields[name] = tuple(fields.get(name, ()))
            label = read_label(folder)
            fields |= {"name": label.name or None, "note": label.note, "pinned": label.pinned}
            fields["damage"] = read_damage(folder)
            return cls(**fields, folder=folder).sound()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise EnvError(
                "generation-damaged",
                f"The record of environment {folder.name} cannot be read.",
                "Use another environment, or install the dependencies again.",
            ) from error

"""The folder of large wheels: what has arrived whole, and what has arrived in part."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from env_manager import durable
from env_manager.shape import MAYBE_TEXT, fits

_NOTE = {"address": str, "etag": MAYBE_TEXT, "modified": MAYBE_TEXT, "total": (int, type(None))}
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Nothing that could lead out of the folder, and what pip and uv accept as a wheel's name.
_FILE_NAME = re.compile(r"[A-Za-z0-9_.+!]+(-[A-Za-z0-9_.+!]+){4,5}\.whl")


@dataclass(frozen=True)
class Origin:
    """Where a part came from and how the server told that version of the file."""

    address: str
    etag: str | None = None
    modified: str | None = None
    total: int | None = None


class WheelStore:
    """Wheels by their SHA-256: `<sha256>/<file name>` is whole and checked, `<sha256>.part` is not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, sha256: str) -> Path | None:
        """The whole wheel of that hash."""
        return next(iter(sorted((self.folder / sha256).glob("*.whl"))), None)

    def sound(self, sha256: str) -> bool:
        """Whether the whole wheel of that hash still has it; reads all of it."""
        file = self.find(sha256)
        if file is None:
            return False
        digest = hashlib.sha256()
        with file.open("rb") as content:
            while block := content.read(1024 * 1024):
                digest.update(block)
        return digest.hexdigest() == sha256

    def part(self, sha256: str) -> Path:
        """The file that collects what arrives."""
        return self.folder / f"{sha256}.part"

    def part_bytes(self, sha256: str) -> int:
        """How much of a wheel is here and need not be fetched again."""
        try:
            return self.part(sha256).stat().st_size
        except OSError:
            return 0

    def origin(self, sha256: str) -> Origin | None:
        """Where the part came from; None where that is not known, and then only the hash decides."""
        try:
            noted = durable.read_json(self._note(sha256))
            return Origin(**noted) if fits(noted, _NOTE) else None
        except (OSError, ValueError, TypeError):
            return None

    def note_origin(self, sha256: str, origin: Origin) -> None:
        """Remember where a part comes from."""
        self._note(sha256).write_text(json.dumps(asdict(origin)), encoding="utf-8")

    def keep(self, sha256: str, file_name: str) -> Path:
        """Make a part whose hash was checked, and which was synced, the whole wheel; one rename."""
        folder = self.folder / sha256
        folder.mkdir(exist_ok=True)
        whole = folder / file_name
        os.replace(self.part(sha256), whole)
        durable.sync_folder(folder)
        durable.sync_folder(self.folder)
        self._note(sha256).unlink(missing_ok=True)
        return whole

    def discard(self, sha256: str) -> None:
        """Forget a wheel, whole or in part."""
        self.part(sha256).unlink(missing_ok=True)
        self._note(sha256).unlink(missing_ok=True)
        if (self.folder / sha256).is_dir():
            shutil.rmtree(self.folder / sha256)

    def collect(self, needed: Collection[str]) -> tuple[str, ...]:
        """Forget every wheel whose hash is not among `needed`; returns the hashes."""
        names = {entry.name.split(".")[0] for entry in self.folder.iterdir()} if self.folder.is_dir() else set()
        gone = sorted(name for name in names if _SHA256.fullmatch(name) and name not in needed)
        for sha256 in gone:
            self.discard(sha256)
        return tuple(gone)

    def _note(self, sha256: str) -> Path:
        return self.folder / f"{sha256}.json"


def plain_name(file_name: str) -> bool:
    """Whether a wheel may lie under this name; the name comes from an index."""
    return _FILE_NAME.fullmatch(file_name) is not None

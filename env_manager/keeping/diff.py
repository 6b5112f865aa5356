"""What two generations differ in: packages, and the bytes on the disk that only one of them uses."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from env_manager.generation import Generation
from env_manager.keeping.disk_use import inodes, total


@dataclass(frozen=True)
class Change:
    """A package with its version before and after."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Difference:
    """From one generation to another. Bytes are on the disk: files shared by both count in neither's own."""

    before: str
    after: str
    added: dict[str, str]
    removed: dict[str, str]
    changed: tuple[Change, ...]
    python: Change | None
    only_before_bytes: int
    only_after_bytes: int
    shared_bytes: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def diff(before: Generation, after: Generation) -> Difference:
    """Compare two generations, package by package and file by file."""
    old, new = before.packages, after.packages
    left, right = inodes(before.folder), inodes(after.folder)
    both = left.keys() & right.keys()
    pythons = [each.interpreter.get("version", "") for each in (before, after)]
    return Difference(
        before=before.id,
        after=after.id,
        added={name: new[name] for name in sorted(new.keys() - old.keys())},
        removed={name: old[name] for name in sorted(old.keys() - new.keys())},
        changed=tuple(
            Change(name, old[name], new[name]) for name in sorted(old.keys() & new.keys()) if old[name] != new[name]
        ),
        python=Change("python", *pythons) if pythons[0] != pythons[1] else None,
        only_before_bytes=total(file for id, file in left.items() if id not in both),
        only_after_bytes=total(file for id, file in right.items() if id not in both),
        shared_bytes=total(left[id] for id in both),
    )

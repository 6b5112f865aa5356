"""Makes environments whole again after the folder that holds them was moved.

Environments are relocatable; what still names the old place are links to interpreters that were
fetched into the same folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from env_manager import durable
from env_manager.proving.verify import RECORD_NAME


def relocate(root: Path, old: Path) -> int:
    """Turn links and settings below `root` that lead into `old` to their new place; returns how many. May be repeated."""
    changed = 0
    for link in _links(root):
        target = os.readlink(link)
        moved = _moved(target, root, old)
        if moved is not None:
            _replace_link(link, moved)
            changed += 1
    for settings in sorted(root.glob("envs/[!.]*/env/pyvenv.cfg")):
        changed += _rewrite(settings, root, old)
    return changed


def _links(root: Path) -> Iterator[Path]:
    places = [*root.glob("envs/[!.]*/env/bin"), *root.glob("envs/[!.]*/env"), root / "python"]
    for place in places:
        if place.is_dir():
            yield from (entry for entry in sorted(place.iterdir()) if entry.is_symlink())
    # Inside a fetched interpreter links are relative; only the names beside it lead by whole paths.


def _moved(path: str, root: Path, old: Path) -> str | None:
    if not os.path.isabs(path) or not Path(path).is_relative_to(old):
        return None
    return os.fspath(root / Path(path).relative_to(old))


def _replace_link(link: Path, target: str) -> None:
    partial = link.with_name(f".{link.name}.part")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target, target_is_directory=os.path.isdir(target))
    os.replace(partial, link)


def _rewrite(settings: Path, root: Path, old: Path) -> int:
    lines = settings.read_text(encoding="utf-8").splitlines()
    new = [_rewritten(line, root, old) for line in lines]
    if new == lines:
        return 0
    durable.replace_text(settings, "\n".join(new) + "\n")
    _record_anew(settings)
    return 1


def _rewritten(line: str, root: Path, old: Path) -> str:
    key, equals, value = line.partition(" = ")
    moved = _moved(value, root, old) if equals else None
    return line if moved is None else f"{key} = {moved}"


def _record_anew(settings: Path) -> None:
    """Tell our record of the environment's files about the one that was changed."""
    record = settings.parent.parent / RECORD_NAME
    if not record.is_file():
        return
    data = settings.read_bytes()
    rows = record.read_bytes().split(b"\n")
    for number, row in enumerate(rows):
        cells = row.split(b"\t")
        if cells[-1] == b"pyvenv.cfg" and len(cells) in (2, 3):
            # Records hold sizes, newer ones also hashes.
            hashed = [hashlib.sha256(data).hexdigest().encode()] if len(cells) == 3 else []
            rows[number] = b"\t".join([str(len(data)).encode(), *hashed, b"pyvenv.cfg"])
    partial = record.with_name(f".{record.name}.part")
    partial.write_bytes(b"\n".join(rows))
    os.replace(partial, record)

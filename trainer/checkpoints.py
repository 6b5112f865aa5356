"""Checkpoints on disk: each is there whole or not at all, and the newest whole one is found. Standard library only.

`checkpoints/step-NNNNNN/` holds the files of one moment and `manifest.json` with the size and SHA-256 of each. It is
written as `step-NNNNNN.part`, made durable, and renamed; whoever is killed in between leaves a part that nobody reads.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FOLDER, MANIFEST = "checkpoints", "manifest.json"
PROTOCOL = 1


@dataclass(frozen=True)
class Found:
    """What a run can go on from: its newest whole checkpoint (None: it begins), and those that were skipped, each with why."""

    step: int
    folder: Path | None
    damaged: list[str]


def write(run: Path, step: int, fill: Callable[[Path], None], keep: int) -> Path:
    """Write the checkpoint of a step, whose files `fill` puts into a folder, and remove all but the newest `keep`.

    Raises OSError where it could not be written; what was there before is then still there.
    """
    parent = run / FOLDER
    final = parent / f"step-{step:06d}"
    partial = parent / f"{final.name}.part"
    if final.exists() and damage(final) is None:  # a run that goes on comes by the same steps again
        return final
    parent.mkdir(exist_ok=True)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        fill(partial)
        files = {file.name: {"bytes": file.stat().st_size, "sha256": _sha256(file)} for file in partial.iterdir()}
        (partial / MANIFEST).write_text(json.dumps({"protocol": PROTOCOL, "step": step, "files": files}, indent=1))
        for file in partial.iterdir():
            _sync(file)
        _sync(partial)
        if final.exists():  # a damaged one of the same step, which was skipped
            os.replace(final, final.with_name(f"{final.name}.damaged.part"))
        os.replace(partial, final)
        _sync(parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for old in [*_by_age(run)[keep:], *parent.glob("*.part")]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def newest(run: Path) -> Found:
    """The newest checkpoint whose every file is as it was written; parts that a killed writer left are removed."""
    damaged: list[str] = []
    for part in (run / FOLDER).glob("*.part"):
        shutil.rmtree(part, ignore_errors=True)
    for folder in _by_age(run):
        wrong = damage(folder)
        if wrong is None:
            return Found(_step_of(folder), folder, damaged)
        damaged.append(f"{folder.name}: {wrong}")
    return Found(0, None, damaged)


def exist(run: Path) -> bool:
    """Whether a run has any checkpoint, whole or not."""
    return bool(_by_age(run))


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None when every file has the recorded size and hash."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["protocol"] != PROTOCOL:
            return f"it was written in form {manifest['protocol']}, and this version reads {PROTOCOL}"
        for name, told in manifest["files"].items():
            file = folder / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != told["bytes"] or _sha256(file) != told["sha256"]:
                return f"{name} is not what was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__})"
    return None


def is_full(error: OSError) -> bool:
    """Whether an error says that no space is left, on the disk or in the user's quota."""
    return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))


def _by_age(run: Path) -> list[Path]:
    """All finished checkpoints, newest first."""
    return sorted(
        (each for each in (run / FOLDER).glob("step-*") if each.suffix != ".part"), key=_step_of, reverse=True
    )


def _step_of(folder: Path) -> int:
    number = folder.name.removeprefix("step-")
    return int(number) if number.isdigit() else -1


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Make a file's content, or a folder's list of names, outlive a power cut."""
    if sys.platform == "win32" and path.is_dir():  # there a folder cannot be opened, and a rename is durable by itself
        return
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

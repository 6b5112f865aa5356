"""How the app starts other processes: a clean environment, detached, with a snapshot of the trainer."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import trainer
from env_manager.generations import Generation
from env_manager.planning.torch_index import visible_devices
from trainer.operation import LOG

# What would let the app's own environment, or the user's, into the managed one.
_NOT_INHERITED = ("PYTHON", "VIRTUAL_ENV", "CONDA", "UV_", "PIP_", "QT_", "QTWEBENGINE")
_ENTRY = '"""Starts the trainer that lies beside this file."""\n\nfrom trainer.__main__ import start\n\nstart()\n'


def clean_environment() -> dict[str, str]:
    """The environment for a managed interpreter: ours without anything that changes where Python looks."""
    return {key: value for key, value in os.environ.items() if not key.startswith(_NOT_INHERITED)}


def managed_environment(generation: Generation) -> dict[str, str]:
    """The environment of a run and of a chat: clean, and with only the GPUs that theirs was built for."""
    return clean_environment() | visible_devices((generation.plan.get("torch") or {}).get("devices") or ())


def snapshot_trainer(folder: Path) -> Path:
    """The trainer's code as a folder named by its content, made once; runs name it, updates of the app don't touch it."""
    source = Path(trainer.__file__).parent
    files = sorted(path for path in source.rglob("*.py") if "starter" not in path.relative_to(source).parts)
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(source).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    snapshot = folder / digest.hexdigest()[:16]
    if snapshot.is_dir():
        return snapshot
    partial = folder / f".{uuid.uuid4().hex}.part"
    for path in files:
        target = partial / "trainer" / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (partial / "__main__.py").write_text(_ENTRY, encoding="utf-8")
    with suppress(OSError):  # somebody else made the same snapshot in the meantime
        os.rename(partial, snapshot)
    shutil.rmtree(partial, ignore_errors=True)
    return snapshot


def trainer_argv(python: Path, snapshot: Path, *arguments: str) -> list[str]:
    """The command that runs the snapshot in a managed interpreter, isolated from everything else."""
    return [str(python), "-I", str(snapshot), *arguments]


def spawn_detached(argv: Sequence[str], folder: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that outlives the app; what it prints goes to the folder's log."""
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(
            argv,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            creationflags=_detached_flags(),
        )


def spawn_waiting(argv: Sequence[str], folder: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that could outlive the app, and that listens to it until it is told its own folder."""
    return subprocess.Popen(
        argv,
        cwd=folder,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,
        creationflags=_detached_flags(),
    )


def _detached_flags() -> int:
    if sys.platform == "win32":
        return subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    return 0

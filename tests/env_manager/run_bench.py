"""Runs in a small environment, which has no torch: none gets far."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from app.operations import Operations, follow_events
from app.views import Followed
from env_manager.generations import Generation
from env_manager.proving.before_run import PROOF_NAME
from env_manager.proving.file_record import RECORD_NAME, take_record
from env_manager.proving.verify import site_packages
from trainer.spec import RunSpec


def built(generation: Generation, path: str, text: str) -> None:
    """A file as if it had been installed: the record knows it."""
    file = site_packages(generation.env) / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    file.write_text(text)
    take_record(generation.env, generation.folder / RECORD_NAME)


def forget(generation: Generation) -> None:
    (generation.folder / PROOF_NAME).unlink()


def start(operations: Operations, **changes: object) -> Followed:
    spec = RunSpec(model="starter").with_changes({"data.train": "ticket", **changes})
    return operations.start_run(spec)


def ran(operations: Operations, **changes: object) -> tuple[list[dict[str, Any]], Any]:
    """All events of a run, and its view once it has ended."""
    followed = start(operations, **changes)
    events = list(follow_events(followed.folder))
    operations._children[-1].wait()
    return events, operations.get(followed.id).view()


def interpreters_of(generation: Generation) -> list[str]:
    """Processes that run this environment's Python."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] == os.fsencode(generation.python):
            found.append(process.name)
    return found

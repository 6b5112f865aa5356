"""The trainer of the next run, started while its form is filled in: the libraries are loaded before they are asked for.

It waits for its order on standard input ([`trainer.standby`](../trainer/standby.py)). A run that it would not fit
exactly, by interpreter, snapshot or environment variables, is started in the ordinary way.
"""

from __future__ import annotations

import json
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from app import models
from app.errors import AppError
from app.processes import managed_environment, snapshot_trainer, spawn_waiting, trainer_argv
from env_manager.generations import Generation
from env_manager.proving.before_run import proved_for_run
from trainer.memory.room import free_memory
from trainer.models.folder import model_type
from trainer.models.hub import model_folder
from trainer.needs import needs_bitsandbytes
from trainer.spec import RunSpec

if TYPE_CHECKING:
    from app.operations import Operations

UNWANTED_SECONDS = 300.0
LEAST_FREE = 4_000_000_000  # bytes; below, what it holds may be what the run lacks


class Standby:
    """At most one waiting trainer; it ends when nobody wants it for a while, and with the app."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._fits: object = None
        self._python: Path | None = None
        self._unwanted: threading.Timer | None = None

    def waits(self, generation: Generation, snapshot: Path) -> bool:
        """Whether one waits that is what such a run would be started as now."""
        with self._lock:
            alive = self._process is not None and self._process.poll() is None
            return alive and self._fits == _fits(generation, snapshot)

    def start(self, generation: Generation, snapshot: Path) -> None:
        """Have one wait for such a run, in place of any other."""
        with self._lock:
            if not self.waits(generation, snapshot):
                self.end()
                argv = trainer_argv(generation.python, snapshot, "standby")
                self._process = spawn_waiting(argv, snapshot, managed_environment(generation))
                self._fits, self._python = _fits(generation, snapshot), generation.python
            self.stay()

    def stay(self) -> None:
        """Let it wait for as long as a new one would."""
        with self._lock:
            if self._unwanted:
                self._unwanted.cancel()
            self._unwanted = threading.Timer(UNWANTED_SECONDS, self.end)
            self._unwanted.daemon = True
            self._unwanted.start()

    def take(
        self, spec: RunSpec, folder: Path, generation: Generation, snapshot: Path
    ) -> subprocess.Popen[bytes] | None:
        """Make it the trainer of this folder's run; None where none fits, and then none is left to take memory."""
        with self._lock:
            process = self._process
            if process and process.stdin and not needs_bitsandbytes(spec) and self.waits(generation, snapshot):
                with suppress(OSError):  # it was killed while it waited
                    process.stdin.write(json.dumps(str(folder)).encode() + b"\n")
                    process.stdin.close()
                    self._process = None
                    return process
            self.end()
            return None

    def end_unless_in(self, python: Path | None) -> None:
        """End one that waits in another interpreter: on Windows its open files would keep a generation from going."""
        with self._lock:
            if self._python != python:
                self.end()

    def end(self) -> None:
        """End the one that waits, if one does."""
        with self._lock:
            if self._unwanted:
                self._unwanted.cancel()
            process, self._process = self._process, None
            if process is not None:
                process.kill()  # it holds nothing that could be lost
                process.communicate()


def _fits(generation: Generation, snapshot: Path) -> object:
    """All that decides what a trainer is before it is told its run."""
    return generation.id, generation.python, snapshot, managed_environment(generation)


def prepare_for(operations: Operations, spec: RunSpec) -> None:
    """Have a trainer wait for a run like this one, where the machine has room for it and the environment is proved."""
    with suppress(AppError, OSError):  # the run's own start says what is wrong
        spec = models.with_names_resolved(spec)
        generation, snapshot = operations.active_generation(), snapshot_trainer(operations.home.trainers)
        if needs_bitsandbytes(spec) or not operations.idle():
            return
        if operations.standby.waits(generation, snapshot):
            operations.standby.stay()
        elif _has_room() and proved_for_run(generation, model_type=model_type(model_folder(spec.model))):
            operations.standby.start(generation, snapshot)


def _has_room() -> bool:
    free = free_memory()
    return free is None or free >= LEAST_FREE

"""Checkpoints written beside the loop: it copies, a thread writes."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from trainer import checkpoints
from trainer.errors import TrainError
from trainer.report import Report
from trainer.snapshot import Snapshot

AUTOMATIC_SECONDS = 300.0  # what a killed run may lose where the person did not say
Written = tuple[int, Path, float]


class Saving:
    """Writes one checkpoint at a time and reports each when it is durable. Used as a context manager."""

    def __init__(self, run: Path, report: Report, every: int | None, keep: int) -> None:
        self._run, self._report, self._every, self._keep = run, report, every, keep
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[Written] | None = None
        self._last = time.monotonic()

    def __enter__(self) -> Saving:
        return self

    def __exit__(self, *_: object) -> None:
        self._collect(wait=True)
        self._thread.shutdown(wait=True)

    def due(self, step: int) -> bool:
        """Whether a checkpoint should follow this step."""
        self._collect(wait=False)
        if self._every:
            return step % self._every == 0
        return time.monotonic() - self._last >= AUTOMATIC_SECONDS

    def begin(self, step: int, snapshot: Snapshot) -> None:
        """Have it written; a checkpoint that is still being written is waited for."""
        self._collect(wait=True)
        self._last = time.monotonic()
        self._pending = self._thread.submit(self._write, step, snapshot)

    def finish(self, step: int, snapshot: Snapshot) -> None:
        """Have it written, and come back when it is durable; raises `TrainError` when it cannot be."""
        self._collect(wait=True)
        try:
            written = self._write(step, snapshot)
        except OSError as error:
            raise self._not_written(step, error) from error
        self._report.checkpoint(*written)

    def _write(self, step: int, snapshot: Snapshot) -> Written:
        began = time.monotonic()
        folder = checkpoints.write(self._run, step, snapshot.write, self._keep)
        return step, folder, time.monotonic() - began

    def _collect(self, *, wait: bool) -> None:
        """Report what the thread has done; a run goes on where a checkpoint could not be written, and says so."""
        if self._pending is None or not (wait or self._pending.done()):
            return
        pending, self._pending = self._pending, None
        try:
            self._report.checkpoint(*pending.result())
        except OSError as error:
            problem = self._not_written(None, error)
            self._report.warn(f"{problem.message} The run goes on; {problem.remedy[0].lower()}{problem.remedy[1:]}")

    def _not_written(self, step: int | None, error: OSError) -> TrainError:
        what = "A checkpoint" if step is None else f"The checkpoint of step {step}"
        if checkpoints.is_full(error):
            return TrainError(
                "disk-full",
                f"{what} could not be written to {self._run}: the disk is full.",
                "Free some space; the checkpoint before it is kept.",
            )
        return TrainError(
            "write-failed",
            f"{what} could not be written to {self._run}: {error.strerror or error}.",
            "Check the disk and the folder's permissions; the checkpoint before it is kept.",
        )

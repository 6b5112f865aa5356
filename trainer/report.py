"""What a run tells about itself, as events of its operation."""

from __future__ import annotations

import dataclasses
import math
import platform
import signal
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from trainer.board import Board
from trainer.data.masks import Encoded
from trainer.evaluation.judging import Score
from trainer.models.coverage import Coverage
from trainer.operation import Operation, read_events
from trainer.snapshot import Progress

PACKAGES = ("torch", "transformers", "peft", "accelerate", "numpy")


def versions() -> dict[str, str]:
    """Versions of the packages that decide a run's result, as this interpreter sees them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class Report:
    """Turns a run's figures into events, and requests into one question: `ending()`."""

    def __init__(self, operation: Operation, found: int = 0) -> None:
        self._operation = operation
        self._terminated = False
        self._steps, self._batches_an_epoch = 0, 1.0
        self._began = self._seconds = 0.0
        self._tokens = self._scored = 0
        signal.signal(signal.SIGTERM, self._on_terminate)
        began_before = any(event["type"] == "hello" for event in read_events(operation.folder))
        resumed = {"resumed_from": found} if began_before else {}
        self._board: Board | None = None
        self._checked: bool | None = None
        self.counts = "tokens"  # what a run counts that it learns from
        operation.emit("hello", versions=versions(), executable=sys.executable, path=sys.path, **resumed)

    def _on_terminate(self, *_: Any) -> None:
        self._terminated = True

    def ending(self) -> Literal["stopped", "paused"] | None:
        """How the run should end after this step, if it should: with its adapter, or to be gone on with later."""
        if self._operation.requested("stop"):
            return "stopped"
        return "paused" if self._terminated or self._operation.requested("pause") else None

    def phase(self, name: str, text: str) -> None:
        """What the run is busy with, in words."""
        self._operation.emit("phase", phase=name, text=text)

    def warn(self, *messages: str) -> None:
        """What a person should know, and what ends nothing."""
        for message in messages:
            self._operation.emit("warning", message=message)

    def checkpoint(self, step: int, folder: Path, seconds: float) -> None:
        """A checkpoint has become durable."""
        self._operation.emit("checkpoint", step=step, folder=str(folder), seconds=round(seconds, 3))

    def chosen(self, **reasons: str) -> None:
        """The choices made by rule, each with its reason."""
        self._operation.emit("progress", chosen=reasons)

    def learns(self, encoded: Encoded) -> None:
        """How much of the rows is learned, and what a person should know about how they became tokens."""
        share = (
            f"{encoded.learned:,} of {encoded.tokens:,} tokens are learned ({encoded.learned / encoded.tokens:.1%})."
        )
        self.chosen(template=encoded.template, learned=share)
        self.warn(*encoded.findings.lines())

    def coverage(self, found: Coverage) -> None:
        """Which parts of the model are trained and which are not, and how many parameters that makes."""
        rows = [dataclasses.asdict(row) for row in found.rows]
        self._operation.emit("progress", trained_parameters=found.trained, parameters=found.total, coverage=rows)

    def memory(self, about: dict[str, Any]) -> None:
        """What a step is predicted to hold, by part, and what it was measured to hold, in bytes."""
        self._operation.emit("progress", memory=about)

    def held(self, most: int) -> None:
        """The most bytes that the steps have held."""
        self._operation.emit("progress", held=most)

    def begin(self, steps: int, batches_an_epoch: float, progress: Progress) -> None:
        """The loop starts now, or goes on from where it was."""
        self._steps, self._batches_an_epoch = steps, batches_an_epoch
        self._tokens, self._scored = progress.tokens, progress.scored
        self._began = time.monotonic() - progress.seconds
        text = f"Training for {steps} steps" + (f", from step {progress.step + 1}" if progress.step else "")
        self._operation.emit("phase", phase="training", text=text, steps=steps)
        try:
            self._board = Board(self._operation.folder / "tensorboard", progress.step)
        except ImportError as error:  # curves are a convenience, and no reason to lose a run
            self.warn(f"There will be no curves for TensorBoard: {error}.")

    def step(self, progress: Progress, *, loss: float, learning_rate: float, grad_norm: float, memory: int) -> None:
        """One optimiser step has been made."""
        step, seconds = progress.step, time.monotonic() - self._began
        tokens, scored = progress.tokens - self._tokens, progress.scored - self._scored
        self._tokens, self._scored, progress.seconds = progress.tokens, progress.scored, seconds
        self._operation.emit(
            "step", step=step, steps=self._steps, epoch=round(step / self._batches_an_epoch, 3), loss=round(loss, 5),
            learning_rate=learning_rate, grad_norm=round(grad_norm, 4) if math.isfinite(grad_norm) else None, tokens=tokens, scored=scored,
            tokens_per_second=round(self._tokens / seconds, 1), eta_seconds=round(seconds / step * (self._steps - step), 1), memory_bytes=memory,
            **self._unit(),
        )  # fmt: skip
        if self._board:
            self._board.write(
                step,
                {
                    "train/loss": loss,
                    "train/rate": learning_rate,
                    "train/gradient_norm": grad_norm,
                    "speed/tokens": self._tokens / seconds,
                    "memory/bytes": memory,
                },
            )

    def held_out(self, step: int, rows: int, loss: float, *, best: bool) -> None:
        """The held-out loss in the middle of training."""
        self._operation.emit("eval", side="training", step=step, rows=rows, loss=round(loss, 5), best=best)
        if self._board:
            self._board.write(step, {"held_out/loss": loss}, always=True)

    def sample(self, step: int, prompt: str, text: str) -> None:
        """What the model said in the middle of training."""
        self._operation.emit("sample", step=step, prompt=prompt, text=text)

    def profiled(self, folder: Path, operations: dict[str, float]) -> None:
        """Where a trace lies, and which operations took which share of the time."""
        self._operation.emit("progress", profile=str(folder), operations=operations)

    def end(self) -> None:
        """The loop has ended; its seconds are counted until here."""
        if self._board:
            self._board.close()
        self._seconds = time.monotonic() - self._began

    def evaluated(self, side: str, rows: int, score: Score, seconds: float) -> None:
        """The held-out score of one side."""
        self._operation.emit(
            "eval", side=side, rows=rows, loss=round(score.loss, 5), exact_match=score.exact_match, answers=[each for each in score.answers if each is not None][:5], seconds=round(seconds, 2), **self._unit()
        )  # fmt: skip

    def read_back(self, good: bool, text: str, where: str) -> None:
        """Whether the saved adapter says the same as the model in memory."""
        self._checked = good
        self._operation.emit("progress", checked=good, text=text, base=where)

    def compared(self, record: dict[str, Any]) -> None:
        """What the difference between both sides is: measures with intervals, and a verdict."""
        self._operation.emit("eval", side="comparison", **record)

    def finish(
        self,
        kind: Literal["done", "stopped", "paused"],
        adapter: Path | None,
        base: Score | None = None,
        tuned: Score | None = None,
    ) -> None:
        """The last event of a run that was not a failure."""
        self._operation.emit(
            kind,
            adapter=adapter and str(adapter),
            checked=self._checked,
            train_seconds=round(self._seconds, 2),
            real_tokens=self._tokens,
            real_tokens_per_second=round(self._tokens / self._seconds, 1) if self._seconds else 0.0,
            base_loss=base and round(base.loss, 5),
            tuned_loss=tuned and round(tuned.loss, 5),
            base_exact_match=base and base.exact_match,
            tuned_exact_match=tuned and tuned.exact_match,
            **self._unit(),
        )

    def _unit(self) -> dict[str, str]:
        """What was counted, where it is not tokens."""
        return {} if self.counts == "tokens" else {"unit": self.counts}

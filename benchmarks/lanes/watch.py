"""Takes the loop's seconds, its steps, its losses, the real tokens that went through it, and the peak of memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback


class Watch(TrainerCallback):  # type: ignore[misc]
    """A callback of transformers' Trainer."""

    def __init__(self, pad: int, *, count_padding: bool = False) -> None:
        self._pad, self._count_padding = pad, count_padding
        self._began = self._ended = self._first = 0.0
        self._steps = self._tokens = 0
        self._losses: list[torch.Tensor] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        # Loading a model may hold more than training it; the peak is to be the loop's, as Fettle's is.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._began = time.perf_counter()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._first = self._first or time.time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._steps += 1
        self._ended = time.perf_counter()

    def look_at(self, trainer: Any) -> None:
        """Count the tokens of every batch that the trainer, or any of this class of trainers, computes."""
        step = trainer.training_step

        def counted(*arguments: Any, **named: Any) -> Any:
            ids = next(each for each in arguments if isinstance(each, Mapping))["input_ids"]
            self._tokens += ids.numel() if self._count_padding else int((ids != self._pad).sum())
            loss = step(*arguments, **named)
            self._losses.append(loss)
            return loss

        trainer.training_step = counted

    def told(self) -> dict[str, Any]:
        """What was seen."""
        return {
            "seconds": self._ended - self._began, "steps": self._steps, "tokens": self._tokens, "first": self._first,
            "peak_bytes": _peak(), "losses": [float(loss) for loss in self._losses],
        }  # fmt: skip


def use_threads(job: dict[str, Any]) -> None:
    """As many threads as the job says, where it says."""
    if job.get("threads"):
        torch.set_num_threads(job["threads"])


def _peak() -> int:
    """The most bytes since the loop began: of tensors on a GPU, else of the process's memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

"""Takes the loop's seconds, its steps, the real tokens that went through it, and the peak of memory."""

from __future__ import annotations

import resource
import time
from typing import Any

import torch
from transformers import TrainerCallback


class Watch(TrainerCallback):  # type: ignore[misc]
    """A callback of transformers' Trainer."""

    def __init__(self, pad: int, *, count_padding: bool = False) -> None:
        self._pad, self._count_padding = pad, count_padding
        self._began = self._ended = 0.0
        self._steps = self._tokens = 0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._steps += 1
        self._ended = time.perf_counter()

    def look_at(self, trainer: Any) -> None:
        """Count the tokens of every batch that the trainer computes."""
        step = trainer.training_step

        def counted(model: Any, inputs: dict[str, torch.Tensor], *rest: Any) -> Any:
            ids = inputs["input_ids"]
            self._tokens += ids.numel() if self._count_padding else int((ids != self._pad).sum())
            return step(model, inputs, *rest)

        trainer.training_step = counted

    def told(self) -> dict[str, Any]:
        """What was seen."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated()
        return {"seconds": self._ended - self._began, "steps": self._steps, "tokens": self._tokens, "peak_bytes": peak}

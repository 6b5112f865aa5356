"""The held-out loss during training: the best adapter is kept, and a run that no longer gains ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from trainer.errors import TrainError
from trainer.evaluation.judging import held_out_loss
from trainer.report import Report
from trainer.snapshot import BEST, Progress, Tensors, put_trainable, trainable
from trainer.spec import Training


class HeldOut:
    """Judges by the loss alone, every so many steps; the best weights so far lie on the CPU and in each checkpoint."""

    def __init__(self, training: Training, examples: Sequence[Any], pad: int, report: Report) -> None:
        self._every, self._patience = training.evaluate_every, training.early_stopping
        self._examples, self._pad, self._report = examples, pad, report
        self.best: Tensors = {}
        if self._every and not examples:
            raise TrainError(
                "held-out-missing",
                "`training.evaluate_every` is set, but there are no held-out rows to evaluate on.",
                "Name a file in `data.held_out`, or set `data.held_out_share`.",
            )
        if self._patience and not self._every:
            raise TrainError(
                "held-out-missing",
                "`training.early_stopping` is set, but nothing is evaluated during training.",
                "Set `training.evaluate_every`.",
            )

    def load(self, folder: Path) -> None:
        """The best weights of a run that goes on."""
        if (folder / BEST).exists():
            self.best = load_file(folder / BEST)

    def after_step(self, model: Any, progress: Progress) -> None:
        """Judge, where it is time, and note in `progress` how it stands."""
        if not self._every or progress.step % self._every:
            return
        model.eval()
        with torch.inference_mode():
            loss = self._loss(model)
        model.train()
        if progress.best_loss is None or loss < progress.best_loss:
            progress.best_loss, progress.best_step, progress.without_gain = loss, progress.step, 0
            self.best = trainable(model)
        else:
            progress.without_gain += 1
        self._report.held_out(progress.step, len(self._examples), loss, best=progress.best_step == progress.step)

    def _loss(self, model: Any) -> float:
        return held_out_loss(model, self._pad, self._examples)

    def enough(self, progress: Progress) -> bool:
        """Whether the last evaluations, as many as the run has patience for, were all no better than the best."""
        return self._patience is not None and progress.without_gain >= self._patience

    def put_best(self, model: Any, progress: Progress) -> None:
        """Give the model its best weights, where those are not its newest."""
        if self.best and progress.best_step != progress.step:
            put_trainable(model, self.best)
            self._report.phase(
                "saving", f"Taking the weights of step {progress.best_step}, the best on the held-out rows"
            )

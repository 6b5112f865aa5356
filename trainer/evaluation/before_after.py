"""The base and its tuned self on the same held-out rows, before and after the loop."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from trainer.data.masks import Example
from trainer.data.samples import Sample
from trainer.errors import TrainError
from trainer.evaluation.judging import Score, judge
from trainer.report import Report
from trainer.snapshot import Progress
from trainer.spec import Evaluation


def answerable(held_out: list[Sample], most: int) -> list[Sample]:
    """The held-out rows that end with an answer, at most so many."""
    rows = [row for row in held_out if row.ends_with_answer]
    if held_out and not rows:
        raise TrainError(
            "data-empty", "No held-out row ends with an answer.", "End each held-out row with the assistant's turn."
        )
    return rows[:most]


class BeforeAfter:
    """Judges each side once; the base's score lies in `progress`, so that a run that goes on does not judge it again."""

    def __init__(
        self, spec: Evaluation, rows: Sequence[Sample], examples: Sequence[Example], tokenizer: Any, run: Report
    ) -> None:
        self._spec, self._rows, self._examples, self._tokenizer, self._run = spec, rows, examples, tokenizer, run
        self.base: Score | None = None
        self.tuned: Score | None = None

    def judge_base(self, model: Any, progress: Progress) -> None:
        """The score without the adapter."""
        if progress.base:
            self.base = Score(**progress.base)
        elif self._rows and not self._run.ending():
            self._run.phase("evaluating", f"Judging the base on {len(self._rows)} held-out rows")
            with model.disable_adapter():
                self.base = self._judge(model, "base")
            progress.base = None if self._run.ending() else dataclasses.asdict(self.base)

    def judge_tuned(self, model: Any) -> None:
        """The score with the adapter, unless the run is to end."""
        if self._rows and not self._run.ending():
            self._run.phase("evaluating", f"Judging the tuned model on {len(self._rows)} held-out rows")
            self.tuned = self._judge(model, "tuned")

    def _judge(self, model: Any, side: str) -> Score:
        started = time.monotonic()
        score = judge(
            model, self._tokenizer, self._rows, self._examples, self._spec, lambda: self._run.ending() is not None
        )
        shown = dataclasses.replace(score, answers=score.answers[:5])
        self._run.evaluated(side, len(self._rows), shown, time.monotonic() - started)
        return score

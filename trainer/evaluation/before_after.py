"""The base and its tuned self on the same held-out rows, before and after the loop."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.data.masks import Example
from trainer.data.samples import Sample
from trainer.evaluation.comparison import as_record, compare, worst_rows
from trainer.evaluation.judging import Score, judge
from trainer.report import Report
from trainer.snapshot import Progress
from trainer.spec import Evaluation
from trainer.vision.sight import Sight

FILE = "evaluation.json"


class BeforeAfter:
    """Judges each side once, and writes `evaluation.json` when both are known.

    The base's score lies in `progress`, so that a run that goes on does not judge it again.
    """

    def __init__(
        self,
        folder: Path,
        spec: Evaluation,
        rows: Sequence[Sample],
        examples: Sequence[Example],
        tokenizer: Any,
        run: Report,
        sight: Sight | None = None,
    ) -> None:
        self._folder, self._spec, self._run, self._tokenizer = folder, spec, run, tokenizer
        self._rows, self._examples, self._sight = rows, examples, sight
        self.base: Score | None = None
        self.tuned: Score | None = None
        self.record: dict[str, Any] | None = None

    def judge_base(self, model: Any, progress: Progress) -> None:
        """The score without the adapter."""
        self.base = _known(progress.base, len(self._rows))
        if self.base is None and self._rows and not self._run.ending():
            self._run.phase("evaluating", f"Judging the base on {len(self._rows)} held-out rows")
            with model.disable_adapter():
                self.base = self._judge(model, "base")
            progress.base = None if self._run.ending() else dataclasses.asdict(self.base)

    def judge_tuned(self, model: Any) -> None:
        """The score with the adapter and what it says beside the base's, unless the run is to end."""
        if not self._rows or self._run.ending():
            return
        self._run.phase("evaluating", f"Judging the tuned model on {len(self._rows)} held-out rows")
        self.tuned = self._judge(model, "tuned")
        if self.base is None or self._run.ending():
            return
        self.record = as_record(compare(self._rows, self.base, self.tuned), len(self._rows))
        self._run.compared(self.record)
        whole = self.record | {"worst": worst_rows(self._rows, self.base, self.tuned)}
        try:
            _write(self._folder / FILE, whole)
        except OSError as error:  # the verdict is in the events, and the adapter is safe
            self._run.warn(f"{FILE} could not be written: {error.strerror}.")

    def _judge(self, model: Any, side: str) -> Score:
        started = time.monotonic()
        score = judge(
            model,
            self._tokenizer,
            self._rows,
            self._examples,
            self._spec,
            lambda: self._run.ending() is not None,
            self._sight,
        )
        self._run.evaluated(side, len(self._rows), score, time.monotonic() - started)
        return score


def _known(score: dict[str, Any] | None, rows: int) -> Score | None:
    """The base's score as a checkpoint holds it; None where there is none, or one of an older version."""
    if score is None or len(score.get("nats", ())) != rows:
        return None
    return Score(**score)


def _write(file: Path, record: dict[str, Any]) -> None:
    partial = file.with_name(file.name + ".part")
    partial.write_text(json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False), encoding="utf-8")
    os.replace(partial, file)

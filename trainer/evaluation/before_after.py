"""The base and its tuned self on the same held-out rows, before and after the loop."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from trainer.data.samples import Sample
from trainer.evaluation.judging import Score
from trainer.report import Report
from trainer.snapshot import Progress

FILE = "evaluation.json"


class Judge(Protocol):
    """What knows how one kind of model is judged, and by which rows."""

    @property
    def rows(self) -> Sequence[Sample]: ...
    def score(self, model: Any, stopping: Callable[[], bool]) -> Score: ...
    def compared(self, base: Score, tuned: Score) -> tuple[dict[str, Any], dict[str, Any]]: ...


class BeforeAfter:
    """Judges each side once, and writes `evaluation.json` when both are known.

    The base's score lies in `progress`, so that a run that goes on does not judge it again.
    """

    def __init__(self, folder: Path, judge: Judge, run: Report) -> None:
        self._folder, self._judge, self._run, self._rows = folder, judge, run, judge.rows
        self.base: Score | None = None
        self.tuned: Score | None = None
        self.record: dict[str, Any] | None = None

    def judge_base(self, model: Any, progress: Progress) -> None:
        """The score without the adapter."""
        self.base = _known(progress.base, len(self._rows))
        if self.base is None and self._rows and not self._run.ending():
            self._run.phase("evaluating", f"Judging the base on {len(self._rows)} held-out rows")
            with model.disable_adapter():
                self.base = self._scored(model, "base")
            progress.base = None if self._run.ending() else dataclasses.asdict(self.base)

    def judge_tuned(self, model: Any) -> None:
        """The score with the adapter and what it says beside the base's, unless the run is to end."""
        if not self._rows or self._run.ending():
            return
        self._run.phase("evaluating", f"Judging the tuned model on {len(self._rows)} held-out rows")
        self.tuned = self._scored(model, "tuned")
        if self.base is None or self._run.ending():
            return
        self.record, more = self._judge.compared(self.base, self.tuned)
        self._run.compared(self.record)
        whole = self.record | more
        try:
            _write(self._folder / FILE, whole)
        except OSError as error:  # the verdict is in the events, and the adapter is safe
            self._run.warn(f"{FILE} could not be written: {error.strerror}.")

    def _scored(self, model: Any, side: str) -> Score:
        started = time.monotonic()
        score = self._judge.score(model, lambda: self._run.ending() is not None)
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

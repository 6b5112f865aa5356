"""The judge of a model that writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trainer.data.masks import Example
from trainer.data.samples import Sample
from trainer.evaluation.comparison import as_record, compare, worst_rows
from trainer.evaluation.judging import Score, judge
from trainer.spec import Evaluation
from trainer.vision.sight import Sight


class Answers:
    """Judges by the loss of what rows write, and by what the model answers."""

    def __init__(
        self,
        tokenizer: Any,
        rows: Sequence[Sample],
        examples: Sequence[Example],
        spec: Evaluation,
        sight: Sight | None = None,
    ) -> None:
        self.rows = rows
        self._tokenizer, self._examples, self._spec, self._sight = tokenizer, examples, spec, sight

    def score(self, model: Any, stopping: Callable[[], bool]) -> Score:
        """One side's."""
        return judge(model, self._tokenizer, self.rows, self._examples, self._spec, stopping, self._sight)

    def compared(self, base: Score, tuned: Score) -> tuple[dict[str, Any], dict[str, Any]]:
        """What an event says of both sides, and what the file says beside it."""
        record = as_record(compare(self.rows, base, tuned), len(self.rows))
        return record, {"worst": worst_rows(self.rows, base, tuned)}

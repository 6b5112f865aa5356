"""What the model says to the same prompts as it learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from trainer.data.samples import Place, Sample
from trainer.data.templates import Renderer
from trainer.errors import TrainError
from trainer.evaluation.judging import answer, question
from trainer.report import Report
from trainer.spec import RunSpec
from trainer.vision.sight import Sight

HELD_OUT_PROMPTS = 3


class Sampling:
    """Greedy answers every so many steps; they draw no random number, so the run's result is the same without them."""

    def __init__(
        self, spec: RunSpec, tokenizer: Any, held_out: Sequence[Sample], report: Report, sight: Sight | None = None
    ) -> None:
        self._tokenizer, self._sight = tokenizer, sight
        self._every, self._longest, self._report = spec.training.sample_every, spec.evaluation.max_new_tokens, report
        lines = [line.strip() for line in spec.training.sample_prompts.splitlines() if line.strip()]
        self._prompts = [_asking(line, number) for number, line in enumerate(lines, 1)]
        self._prompts = self._prompts or [sample for sample in held_out if sample.answer][:HELD_OUT_PROMPTS]
        if self._every and not self._prompts:
            raise TrainError(
                "held-out-missing",
                "`training.sample_every` is set, but there are neither prompts nor held-out rows to take them from.",
                "Write prompts into `training.sample_prompts`, one a line.",
            )

    def after_step(self, model: Any, step: int) -> None:
        """Answer, where it is time."""
        if not self._every or step % self._every:
            return
        model.eval()
        with torch.inference_mode():
            renderer = Renderer(self._tokenizer)
            prompts = [question(renderer, each, self._sight) for each in self._prompts]
            said = answer(model, self._tokenizer, prompts, self._longest)
        model.train()
        for sample, text in zip(self._prompts, said, strict=True):
            self._report.sample(step, sample.messages[-2]["content"], text)


def _asking(line: str, number: int) -> Sample:
    """A prompt as a row whose answer is still to be given."""
    place = Place("training.sample_prompts", number, number)
    return Sample("conversation", place, ({"role": "user", "content": line}, {"role": "assistant", "content": ""}))

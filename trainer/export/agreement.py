"""Do two models say the same? Greedy answers to a few prompts, compared token by token with their logits."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from trainer.data.samples import Place, Sample
from trainer.data.templates import Renderer
from trainer.errors import TrainError
from trainer.vision.sight import Prompt, Sight, to_ask

PROMPTS, TOKENS = 4, 24
TEXT_PROMPT = 200  # characters of a row of plain text that are continued
# The largest difference of a logit, as a share of the largest logit, that rounding explains.
TOLERANCE = {"fp32": 1e-4, "bf16": 0.05, "fp16": 0.01}


@dataclass(frozen=True)
class Said:
    """What a model said: `tokens` [rows, steps], and `logits` [rows, steps, vocabulary] of each, on the CPU."""

    tokens: torch.Tensor
    logits: torch.Tensor


@dataclass(frozen=True)
class Agreement:
    """`difference` is the largest of a logit, as a share of the largest logit; `same` answers of `of` are equal."""

    difference: float
    tolerance: float
    same: int
    of: int

    @property
    def good(self) -> bool:
        """Whether rounding explains the difference; answers then part only where two tokens were as likely."""
        return self.difference <= self.tolerance

    def __str__(self) -> str:
        return (
            f"{self.same} of {self.of} answers are the same token for token; logits differ by at most "
            f"{self.difference:.2g} of the largest (allowed: {self.tolerance:g})"
        )


def prompts_of(tokenizer: Any, samples: Sequence[Sample], sight: Sight | None = None) -> list[Prompt]:
    """A few rows up to where their answer begins; a greeting where no row can be asked."""
    renderer, found = Renderer(tokenizer), []
    for sample in samples:
        with suppress(TrainError):
            asked = renderer.text(sample.messages[:-1], sample, ask=True) if sample.answer else ""
            found.append(Prompt.of(asked, sample, sight) if asked else Prompt(sample.text[:TEXT_PROMPT]))
        if len([each for each in found if each.text]) == PROMPTS:
            break
    greeting = Sample("conversation", Place("greeting", 0), ({"role": "user", "content": "Hello!"},))
    return [each for each in found if each.text] or [Prompt(renderer.text(greeting.messages, greeting, ask=True))]


@torch.inference_mode()
def said_by(model: Any, tokenizer: Any, prompts: Sequence[Prompt]) -> Said:
    """Greedy answers of at most 24 tokens, with the logits that they were chosen by."""
    produced = model.generate(
        **to_ask(tokenizer, prompts, model.device),
        max_new_tokens=TOKENS,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        return_dict_in_generate=True,
        output_logits=True,
    )
    logits = torch.stack([step.float().cpu() for step in produced.logits], dim=1)
    return Said(produced.sequences[:, -logits.shape[1] :].cpu(), logits)


def compare(one: Said, other: Said, precision: str) -> Agreement:
    """Rows are compared up to and with the first token in which they part; before that both saw the same."""
    steps = min(one.tokens.shape[1], other.tokens.shape[1])
    worst, same = 0.0, 0
    for row in range(len(one.tokens)):
        parted = (one.tokens[row, :steps] != other.tokens[row, :steps]).nonzero()
        until = int(parted[0]) + 1 if len(parted) else steps
        same += not len(parted) and one.tokens.shape == other.tokens.shape
        worst = max(worst, _difference(one.logits[row, :until], other.logits[row, :until]))
    return Agreement(worst, TOLERANCE[precision], same, len(one.tokens))


def _difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest of a logit, as a share of the largest of ours; infinite where only one side is a number."""
    finite = ours.isfinite()  # a model may forbid tokens with an infinite logit
    if not finite.any() or not torch.equal(finite, theirs.isfinite()):
        return torch.inf
    return float((ours - theirs)[finite].abs().max()) / (float(ours[finite].abs().max()) or 1.0)

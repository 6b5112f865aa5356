"""Judge a model on held-out rows: what each costs it in nats, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from trainer.data.batches import collate
from trainer.data.masks import IGNORED, Example
from trainer.data.samples import Place, Sample
from trainer.data.templates import Renderer
from trainer.evaluation.scores import exact_match
from trainer.spec import Evaluation
from trainer.vision.sight import Prompt, Sight, inputs, to_ask

ROWS_AT_ONCE = 50
LOGITS_AT_ONCE = 1 << 27  # half a gigabyte in fp32; 50 long rows of a large vocabulary would be sixty
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Score:
    """One side's `nats` and `tokens` by row (0 where nothing is scored), and its answers by row.

    A row's answer is None where the row asks for none; there are no answers at all where none were generated.
    """

    nats: list[float]
    tokens: list[int]
    answers: list[str | None]
    exact_match: float | None = None

    @property
    def loss(self) -> float:
        """Mean cross-entropy over all scored tokens, in nats."""
        return sum(self.nats) / sum(self.tokens) if sum(self.tokens) else math.nan


def judge(
    model: Any,
    tokenizer: Any,
    samples: Sequence[Sample],
    examples: Sequence[Example],
    spec: Evaluation,
    stopping: Callable[[], bool],
    sight: Sight | None = None,
) -> Score:
    """Loss over all examples and, when asked for, greedy answers to what precedes each sample's last turn."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            nats, tokens = _by_row(samples, examples, row_losses(model, tokenizer.pad_token_id, examples))
            asked = [row for row, sample in enumerate(samples) if sample.answer] if spec.generate else []
            renderer = Renderer(tokenizer)
            prompts = [question(renderer, samples[row], sight) for row in asked]
            said = answer(model, tokenizer, prompts, spec.max_new_tokens, stopping)
    finally:
        model.train(was_training)
    if len(said) < len(asked) or not asked:
        return Score(nats, tokens, [])
    answers: list[str | None] = [None] * len(samples)
    for row, text in zip(asked, said, strict=True):
        answers[row] = text
    right = sum(exact_match(text, samples[row].answer) for row, text in zip(asked, said, strict=True))
    return Score(nats, tokens, answers, right / len(asked))


def question(renderer: Renderer, sample: Sample, sight: Sight | None = None) -> Prompt:
    """What precedes a row's last turn, rendered as it was for training, up to where the answer begins."""
    return Prompt.of(renderer.text(sample.messages[:-1], sample, ask=True), sample, sight)


def held_out_loss(model: Any, pad: int, examples: Sequence[Example]) -> float:
    """Mean cross-entropy over all scored tokens of the examples, in nats."""
    nats = row_losses(model, pad, examples)
    scored = sum(example.scored for example in examples)
    return sum(nats) / scored if scored else math.nan


def row_losses(model: Any, pad: int, examples: Sequence[Example]) -> list[float]:
    """The sum of the cross-entropy over each example's scored tokens, in nats."""
    order = sorted(
        range(len(examples)), key=lambda row: -len(examples[row].ids)
    )  # the largest first: want of memory shows
    longest = max((len(example.ids) for example in examples), default=1)
    at_once = min(ROWS_AT_ONCE, max(1, LOGITS_AT_ONCE // (longest * model.config.get_text_config().vocab_size)))

    def losses(rows: Sequence[int]) -> list[float]:
        batch = collate([examples[row] for row in rows], pad)
        device = model.device
        given = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        given |= inputs(batch.seen, batch.input_ids)
        logits = model(**{name: value.to(device) for name, value in given.items()}).logits
        labels = batch.labels[:, 1:].to(device)
        each = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        return each.view(labels.shape).sum(1).tolist()

    found = in_portions(order, at_once, losses)
    return [nats for _, nats in sorted(zip(order, found, strict=True))]


def answer(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    stopping: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Greedy answers to several prompts at once (padded on the left); fewer than prompts where it was stopped."""

    def answers(some: Sequence[Prompt]) -> list[str]:
        inputs = to_ask(tokenizer, some, model.device)
        produced = model.generate(
            **inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
        said: list[str] = tokenizer.batch_decode(produced[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return said

    return in_portions(prompts, ROWS_AT_ONCE, answers, stopping)


def in_portions(
    items: Sequence[T],
    at_once: int,
    compute: Callable[[Sequence[T]], list[R]],
    stopping: Callable[[], bool] = lambda: False,
) -> list[R]:
    """The results of all items; where memory runs out, half as many are computed at once from then on."""
    results: list[R] = []
    while len(results) < len(items) and not stopping():
        portion = items[len(results) : len(results) + at_once]
        try:
            results += compute(portion)
        except torch.OutOfMemoryError:
            if len(portion) == 1:
                raise
            at_once = len(portion) // 2
    return results


def _by_row(
    samples: Sequence[Sample], examples: Sequence[Example], losses: Sequence[float]
) -> tuple[list[float], list[int]]:
    """Nats and scored tokens of each sample: a row may have become several examples, or none."""
    row_of: dict[Place | None, int] = {}
    for row, sample in enumerate(samples):
        row_of.setdefault(sample.place, row)
    nats, tokens = [0.0] * len(samples), [0] * len(samples)
    for example, loss in zip(examples, losses, strict=True):
        row = row_of[example.place]
        nats[row] += loss
        tokens[row] += example.scored
    return nats, tokens

"""Conversations as token ids with labels on the assistant's tokens only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.data.samples import Message, Sample
from trainer.errors import TrainError
from trainer.spec import Data

IGNORED = -100  # the label of a token that is not scored, as cross-entropy's `ignore_index`


@dataclass(frozen=True)
class Example:
    """One row as the model sees it; `ids` and `labels` have the same length."""

    ids: list[int]
    labels: list[int]

    @property
    def scored(self) -> int:
        """How many tokens are learned."""
        return sum(label != IGNORED for label in self.labels)


def encode(tokenizer: Any, samples: Sequence[Sample], data: Data) -> list[Example]:
    """Every conversation rendered by the tokenizer's chat template, cut at `data.max_length` tokens.

    Raises `TrainError` when there is no template, or when no token at all would be scored.
    """
    if not tokenizer.chat_template:
        raise TrainError(
            "template-missing",
            "The model's tokenizer has no chat template, so it is unknown how a conversation looks to it.",
            "Use an instruction-tuned model, or add a `chat_template.jinja` to the model's folder.",
        )
    mark = (
        _by_generation_markers if "{% generation %}" in tokenizer.chat_template.replace("{%-", "{%") else _by_prefixes
    )
    examples = []
    for sample in samples:
        ids, scored = mark(tokenizer, list(sample.messages))
        labels = [token if learned else IGNORED for token, learned in zip(ids, scored, strict=True)]
        examples.append(Example(ids[: data.max_length], labels[: data.max_length]))
    if not any(example.scored for example in examples):
        raise TrainError(
            "nothing-scored",
            "Not one token of the assistant is left to learn from.",
            "Raise `data.max_length`, or check that the answers are the assistant's turns.",
        )
    return [example for example in examples if example.scored]


def _by_generation_markers(tokenizer: Any, conversation: list[Message]) -> tuple[list[int], list[bool]]:
    rendered = tokenizer.apply_chat_template(
        conversation, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return list(rendered["input_ids"]), [bool(mark) for mark in rendered["assistant_masks"]]


def _by_prefixes(tokenizer: Any, conversation: list[Message]) -> tuple[list[int], list[bool]]:
    """Find each answer as what the template adds to the conversation before it; verified, never guessed."""
    ids: list[int] = tokenizer.apply_chat_template(conversation, tokenize=True, return_dict=False)
    scored = [False] * len(ids)
    for turn, message in enumerate(conversation):
        if message["role"] != "assistant":
            continue
        before = tokenizer.apply_chat_template(
            conversation[:turn], tokenize=True, return_dict=False, add_generation_prompt=True
        )
        until = tokenizer.apply_chat_template(conversation[: turn + 1], tokenize=True, return_dict=False)
        if ids[: len(before)] != before or ids[: len(until)] != until:
            raise TrainError(
                "template-rewrites",
                "The chat template changes earlier turns, so the answers' tokens cannot be told apart.",
                "Use rows with one answer each, or a template with generation markers.",
            )
        scored[len(before) : len(until)] = [True] * (len(until) - len(before))
    return ids, scored

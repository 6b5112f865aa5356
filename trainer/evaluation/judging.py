"""Judge a model on held-out rows: loss on the answers, and how many answers come out exactly right."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trainer.data.batches import collate
from trainer.data.masks import IGNORED, Example
from trainer.data.samples import Message, Sample
from trainer.spec import Evaluation

ROWS_AT_ONCE = 50


@dataclass(frozen=True)
class Score:
    """`loss` in nats a scored token; `exact_match` a share from 0 to 1, None when answers were not generated."""

    loss: float
    exact_match: float | None
    answers: list[str]


def judge(
    model: Any,
    tokenizer: Any,
    samples: Sequence[Sample],
    examples: Sequence[Example],
    spec: Evaluation,
    stopping: Callable[[], bool],
) -> Score:
    """Loss over all examples and, when asked for, greedy answers to what precedes each sample's last turn."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            loss = held_out_loss(model, tokenizer.pad_token_id, examples)
            if not spec.generate:
                return Score(loss, None, [])
            answers: list[str] = []
            for start in range(0, len(samples), ROWS_AT_ONCE):
                if stopping():
                    return Score(loss, None, answers)
                asked = [list(sample.messages[:-1]) for sample in samples[start : start + ROWS_AT_ONCE]]
                answers += answer(model, tokenizer, asked, spec.max_new_tokens)
    finally:
        model.train(was_training)
    right = sum(said.strip() == row.messages[-1]["content"].strip() for said, row in zip(answers, samples, strict=True))
    return Score(loss, right / len(samples), answers)


def held_out_loss(model: Any, pad: int, examples: Sequence[Example]) -> float:
    """Mean cross-entropy over all scored tokens of the examples, in nats."""
    total, scored = 0.0, 0
    by_length = sorted(examples, key=lambda example: len(example.ids))
    for start in range(0, len(by_length), ROWS_AT_ONCE):
        batch = collate(by_length[start : start + ROWS_AT_ONCE], pad)
        device = model.device
        logits = model(input_ids=batch.input_ids.to(device), attention_mask=batch.attention_mask.to(device)).logits
        labels = batch.labels[:, 1:].to(device)
        total += torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        ).item()
        scored += batch.scored
    return total / scored if scored else math.nan


def answer(model: Any, tokenizer: Any, asked: Sequence[list[Message]], max_new_tokens: int) -> list[str]:
    """Greedy answers to several conversations at once (padded on the left)."""
    prompts = [tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) for turns in asked]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    inputs = {name: inputs[name].to(model.device) for name in ("input_ids", "attention_mask")}
    produced = model.generate(
        **inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
    )
    answers: list[str] = tokenizer.batch_decode(produced[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers

"""A training run from its folder's record to its adapter: read it top to bottom."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from trainer import report
from trainer.adapter import save_adapter
from trainer.data.batches import training_batches
from trainer.data.masks import Example, encode, encode_all
from trainer.data.reading import read_samples
from trainer.data.samples import Sample
from trainer.device import choose_device, choose_precision, choose_threads, memory_in_use
from trainer.errors import TrainError
from trainer.evaluate import Score, judge
from trainer.models.loading import load_base, with_lora
from trainer.models.tokenizer import load_tokenizer
from trainer.operation import Operation
from trainer.schedule import learning_rate
from trainer.spec import RunSpec


def train(operation: Operation, spec: RunSpec) -> None:
    """Train one adapter; the last event is `done` or `stopped`, and failures are raised."""
    run = report.Report(operation)

    # Data: every row is read, checked and tokenised before a weight is loaded.
    run.phase("data", "Reading the data")
    samples = read_samples(spec.data)
    held_out = _answerable(samples.held_out, spec.evaluation.rows)
    tokenizer = load_tokenizer(Path(spec.model))
    encoded = encode_all(tokenizer, samples.train, spec.data)
    examples = encoded.examples
    held_out_examples = encode(tokenizer, held_out, spec.data) if held_out else []
    run.learns(encoded)

    # Device and precision: chosen by rule, with the reason in the record.
    device, why_device = choose_device(spec.training.device)
    precision, why_precision = choose_precision(spec.training.precision, device)
    accelerator = Accelerator(mixed_precision={"fp32": "no"}.get(precision, precision), cpu=device == "cpu")
    set_seed(spec.training.seed)

    # Model: frozen base, fresh adapter.
    run.phase("model", f"Loading {Path(spec.model).name}")
    model: Any = with_lora(load_base(Path(spec.model), torch.float32), spec.lora)
    threads, why_threads = choose_threads(spec.training.threads, model)
    torch.set_num_threads(threads)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer: Any = torch.optim.AdamW(
        trained, lr=spec.optimizer.learning_rate, weight_decay=spec.optimizer.weight_decay
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    run.chosen(device=why_device, precision=why_precision, threads=why_threads)
    run.coverage(trained=sum(p.numel() for p in trained), total=sum(p.numel() for p in model.parameters()))

    base = _judge(run, model, tokenizer, held_out, held_out_examples, spec, tuned=False)

    # The loop: `accumulation` batches make one optimiser step; the epochs asked for decide how many steps.
    accumulation = spec.training.gradient_accumulation
    batches_an_epoch = math.ceil(len(examples) / spec.training.batch_size)
    steps = max(1, round(spec.training.epochs * batches_an_epoch / accumulation))
    steps = min(steps, spec.training.max_steps or steps)
    run.begin(steps=steps, batches_an_epoch=batches_an_epoch / accumulation)
    batches = training_batches(examples, tokenizer.pad_token_id, spec.training.batch_size, spec.training.seed)
    model.train()
    for step in range(1, steps + 1):
        if run.stopping():
            break
        rate = learning_rate(spec.optimizer, step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        micro = [next(batches) for _ in range(accumulation)]
        scored = sum(batch.scored for batch in micro)
        loss = torch.zeros((), device=accelerator.device)
        for batch in micro:
            share = _loss(accelerator, model, batch) * (batch.scored / scored)
            accelerator.backward(share)
            loss += share.detach()
        grad_norm = accelerator.clip_grad_norm_(trained, spec.optimizer.max_grad_norm or math.inf)
        optimizer.step()
        optimizer.zero_grad()
        run.step(
            step,
            loss=loss.item(),
            learning_rate=rate,
            grad_norm=float(grad_norm),
            tokens=sum(batch.tokens for batch in micro),
            scored=scored,
            memory=memory_in_use(device),
        )

    # What remains: the adapter, then the verdict.
    stopped = run.stopping()
    run.end()
    run.phase("saving", "Saving the adapter")
    adapter = save_adapter(accelerator.unwrap_model(model), tokenizer, operation.folder)
    if stopped:
        run.finish("stopped", adapter)
        return
    tuned = _judge(run, model, tokenizer, held_out, held_out_examples, spec, tuned=True)
    run.finish("done", adapter, base=base, tuned=tuned)


def _loss(accelerator: Accelerator, model: Any, batch: Any) -> torch.Tensor:
    """Mean cross-entropy over the batch's scored tokens."""
    device = accelerator.device
    with accelerator.autocast():
        return model(
            input_ids=batch.input_ids.to(device),
            attention_mask=batch.attention_mask.to(device),
            labels=batch.labels.to(device),
        ).loss


def _answerable(held_out: list[Sample], most: int) -> list[Sample]:
    """The held-out rows that end with an answer, at most so many."""
    rows = [row for row in held_out if row.ends_with_answer]
    if held_out and not rows:
        raise TrainError(
            "data-empty", "No held-out row ends with an answer.", "End each held-out row with the assistant's turn."
        )
    return rows[:most]


def _judge(
    run: report.Report,
    model: Any,
    tokenizer: Any,
    rows: list[Sample],
    examples: list[Example],
    spec: RunSpec,
    *,
    tuned: bool,
) -> Score | None:
    """The held-out score of the tuned model, or of its base with the adapter switched off."""
    if not rows:
        return None
    run.phase("evaluating", f"Judging the {'tuned model' if tuned else 'base'} on {len(rows)} held-out rows")
    started = time.monotonic()
    if tuned:
        score = judge(model, tokenizer, rows, examples, spec.evaluation, run.stopping)
    else:
        with model.disable_adapter():
            score = judge(model, tokenizer, rows, examples, spec.evaluation, run.stopping)
    run.evaluated(
        "tuned" if tuned else "base",
        len(rows),
        dataclasses.replace(score, answers=score.answers[:5]),
        time.monotonic() - started,
    )
    return score

"""Before the first step: predict what it holds, choose how many rows at once, and measure where it is close."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from trainer.data.batches import collate, row_lengths
from trainer.data.masks import Example
from trainer.errors import TrainError
from trainer.memory import peak
from trainer.memory.choice import SHARE, choose, corrected
from trainer.memory.estimate import CUDA_CONTEXT, Load
from trainer.memory.kills import Limit
from trainer.memory.probe import measure
from trainer.memory.room import free_memory
from trainer.memory.shape import read_shape
from trainer.portions import Portions, recompute_activations
from trainer.report import Report
from trainer.snapshot import Progress
from trainer.spec import RunSpec


@dataclass(frozen=True)
class Step:
    """What a step of training is made of, and where it is computed."""

    model: Any
    optimizer: Any
    portions: Portions
    device: str
    precision: str
    base_precision: str


def settle(
    run: Report, spec: RunSpec, step: Step, examples: Sequence[Example], pad: int, progress: Progress, limit: Limit
) -> None:
    """Set `progress.micro_batch` and `progress.recomputes`, and say why.

    A run that goes on computes as many rows at once as before, or its digits would change, unless that got it killed.
    """
    lengths = row_lengths(examples)
    by_length = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    batch = min(spec.training.batch_size, len(lengths))
    if progress.step and not limit.rows:
        spec = spec.with_changes({"training.micro_batch_size": progress.micro_batch or batch})
    held, weights = _held(step), bytes_of_weights(step.model)
    load = Load(
        rows=min(batch, limit.rows or batch),
        longest=lengths[by_length[0]],
        device=step.device,
        precision=step.precision,
        base_precision=step.base_precision,
        recomputes=progress.recomputes or limit.recomputes,
        process=held - weights,
        weights=weights,
    )
    try:
        shape = read_shape(Path(spec.model))
    except TrainError as unknown:  # it trains all the same; what does not fit is halved when memory runs out
        run.chosen(memory=f"not predicted: {unknown.message}")
        progress.micro_batch = min(spec.training.micro_batch_size or load.rows, load.rows)
        progress.recomputes = load.recomputes or spec.training.gradient_checkpointing == "on"
        if progress.recomputes:
            recompute_activations(step.model)
        return
    choice = choose(shape, spec, load, _free(step.device))
    rows = choice.load.rows
    progress.micro_batch = rows if rows < batch else None
    if choice.load.recomputes:
        progress.recomputes = True
        recompute_activations(step.model)
    about: dict[str, Any] = {
        "predicted": choice.parts.total,
        "parts": choice.parts.by_name(),
        "rough": choice.parts.rough,
    }
    about |= {"free": choice.free, "rows": rows, "recomputes": progress.recomputes, "measured": None}
    why = "not measured beforehand, because it fits even if nothing that is freed is given back"
    if not choice.roomy and not spec.training.compile:
        run.memory(about)  # a run that is killed while it measures is to know what was too much
        run.phase("memory", "Measuring the memory of one step")
        peak.give_back_at_once()
        worst = collate([examples[row] for row in by_length[:rows]], pad)
        measured = measure(step.model, step.optimizer, step.portions, worst, progress, step.device)
        why = f"a step of the longest rows was measured to hold {measured / 1e9:.2f} GB"
        ran_out = progress.micro_batch is not None and progress.micro_batch < rows
        if spec.training.micro_batch_size is None and not ran_out:
            rows = corrected(choice, measured, load.rows)
            progress.micro_batch = rows if rows < batch else None
        about |= {"measured": measured}
    rows = progress.micro_batch or batch
    run.memory(about | {"rows": rows, "recomputes": progress.recomputes})
    run.chosen(
        memory=f"{rows} of {batch} rows at once: a step of {choice.load.rows} is predicted to hold "
        f"{choice.parts.total / 1e9:.2f} GB of {choice.free / 1e9:.1f} GB that are free; {why}"
    )
    needs = int(about["measured"] or choice.parts.total)
    if rows == 1 and needs > SHARE * choice.free:
        run.warn(
            f"One row needs about {needs / 1e9:.1f} GB, and {choice.free / 1e9:.1f} GB are free: the run may end for "
            "want of memory. Lower `data.max_length`, or take a smaller or quantised model."
        )


def _held(step: Step) -> int:
    """What the process holds now, its model included."""
    if step.device == "cuda":
        return CUDA_CONTEXT + int(torch.cuda.memory_allocated())
    return int(psutil.Process().memory_info().rss)


def bytes_of_weights(model: Any) -> int:
    """Bytes of the frozen weights as they are."""
    return sum(each.numel() * each.element_size() for each in model.parameters() if not each.requires_grad)


def _free(device: str) -> int:
    """What this process may hold in all: what it has, and what is free beside it."""
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return int(free + torch.cuda.memory_reserved()) + CUDA_CONTEXT
    left = free_memory()
    return int(psutil.Process().memory_info().rss + (psutil.virtual_memory().available if left is None else left))

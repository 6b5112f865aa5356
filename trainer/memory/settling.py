"""Before the first step: predict what it holds, choose how many rows at once, and measure where it is close."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from trainer.data.batches import collate, row_lengths
from trainer.data.masks import IGNORED, Example
from trainer.errors import TrainError
from trainer.memory import peak
from trainer.memory.choice import SHARE, Choice, choose, corrected
from trainer.memory.estimate import CUDA_CONTEXT, Load, Row
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
    most = min(batch, limit.rows or batch)
    longest = [examples[row] for row in by_length[:most]]
    if progress.step:
        spec = spec.with_changes({"training.micro_batch_size": min(progress.micro_batch or batch, most)})
    load = _load(step, longest, recomputes=progress.recomputes or limit.recomputes)
    try:
        choice = choose(read_shape(Path(spec.model)), spec, load, _free(step.device, spec.training.memory_limit))
    except TrainError as unknown:  # it trains all the same; what does not fit is halved when memory runs out
        run.chosen(memory=f"not predicted: {unknown.message}")
        rows = min(spec.training.micro_batch_size or most, most)
        _take(step, progress, rows, batch, recomputes=load.recomputes or spec.training.gradient_checkpointing == "on")
        return
    rows, measured = choice.load.rows, None
    _take(step, progress, rows, batch, recomputes=choice.load.recomputes)
    if not choice.roomy and not spec.training.compile:
        run.memory(_about(choice, rows, progress, None))  # killed while it measures, it is to know what was too much
        run.phase("memory", "Measuring the memory of one step")
        peak.give_back_at_once()
        worst = collate(longest[:rows], pad)
        measured = measure(step.model, step.optimizer, step.portions, worst, progress, step.device)
        if (progress.micro_batch or rows) < rows:  # a GPU ran out of memory, and smaller steps were taken
            rows = progress.micro_batch or rows
        elif spec.training.micro_batch_size is None:
            rows = corrected(choice, measured, most)
            progress.micro_batch = rows if rows < batch else None
    run.memory(_about(choice, rows, progress, measured))
    run.chosen(memory=f"{rows} of {batch} rows at once: {_why(choice, measured)}")
    needs = measured or choice.parts.total
    if rows == 1 and needs > SHARE * choice.free:
        run.warn(
            f"One row needs about {needs / 1e9:.1f} GB, and {choice.free / 1e9:.1f} GB are free: the run may end for "
            "want of memory. Lower `data.max_length`, or take a smaller or quantised model."
        )


def _take(step: Step, progress: Progress, rows: int, batch: int, *, recomputes: bool) -> None:
    progress.micro_batch = rows if rows < batch else None
    if recomputes:
        progress.recomputes = True
        recompute_activations(step.model)


def _about(choice: Choice, rows: int, progress: Progress, measured: int | None) -> dict[str, Any]:
    """What the run's record says of its memory, in bytes."""
    parts = choice.parts
    about = {"predicted": parts.total, "measured": measured, "parts": parts.by_name(), "rough": parts.rough}
    return about | {"free": choice.free, "rows": rows, "recomputes": progress.recomputes}


def _why(choice: Choice, measured: int | None) -> str:
    predicted = (
        f"a step of {choice.load.rows} is predicted to hold {choice.parts.total / 1e9:.2f} GB of "
        f"{choice.free / 1e9:.1f} GB that are free"
    )
    if measured is None and choice.roomy:
        return f"{predicted}; not measured beforehand, because it fits even if nothing that is freed is given back"
    if measured is None:
        return f"{predicted}; not measured beforehand, because its layers are compiled"
    return f"{predicted}; a step of the longest rows was measured to hold {measured / 1e9:.2f} GB"


def _load(step: Step, longest: Sequence[Example], *, recomputes: bool) -> Load:
    """A step of the longest rows, with what this process knows of itself."""
    weights = bytes_of_weights(step.model)
    return Load(
        len(longest),
        len(longest[0].ids),
        step.device,
        step.precision,
        step.base_precision,
        recomputes=recomputes,
        end_to_end=tuple(map(_row, longest)) if step.portions.end_to_end else (),
        process=_held(step) - weights,
        weights=weights,
    )


def _row(example: Example) -> Row:
    """What is computed of a row end to end: nothing after its last prediction."""
    scored = [place for place, label in enumerate(example.labels[1:], 1) if label != IGNORED]
    return Row(max(scored, default=0), len(scored))


def _held(step: Step) -> int:
    """What the process holds now, its model included."""
    if step.device == "cuda":
        return CUDA_CONTEXT + int(torch.cuda.memory_allocated())
    return int(psutil.Process().memory_info().rss)


def bytes_of_weights(model: Any) -> int:
    """Bytes of the frozen weights as they are."""
    return sum(each.numel() * each.element_size() for each in model.parameters() if not each.requires_grad)


def _free(device: str, limit: float | None) -> int:
    """What this process may hold in all: what it has, and what is free beside it; `limit` in GB on a GPU."""
    if device == "cuda":
        free = int(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved())
        return (min(free, int(limit * 1e9)) if limit else free) + CUDA_CONTEXT
    left = free_memory()
    return int(psutil.Process().memory_info().rss + (psutil.virtual_memory().available if left is None else left))

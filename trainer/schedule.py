"""How many steps a run has, and the learning rate of each."""

from __future__ import annotations

import math

from trainer.spec import Optimizer, Training


def planned_steps(training: Training, rows: int) -> int:
    """The steps that make the epochs asked for, at most those named, at least one."""
    batches = math.ceil(rows / training.batch_size)
    steps = max(1, round(training.epochs * batches / training.gradient_accumulation))
    return min(steps, training.max_steps or steps)


def learning_rate(spec: Optimizer, step: int, steps: int) -> float:
    """The rate of step `step` of `steps` (from 1): linear warm-up, then the schedule from full rate towards zero."""
    warmup = round(spec.warmup * steps)
    if step <= warmup:
        return spec.learning_rate * step / warmup
    done = (step - 1 - warmup) / max(1, steps - warmup)
    return spec.learning_rate * _factor(spec, done)


def _factor(spec: Optimizer, done: float) -> float:
    """The part of the full rate when so much of the time after the warm-up is done, from 0 to below 1."""
    if spec.schedule == "constant":
        return 1.0
    if spec.schedule == "step":
        return float(spec.step_factor ** int(done * (spec.step_drops + 1)))
    within = done * (spec.restarts + 1) % 1.0
    return 1.0 - within if spec.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * within))

"""The learning rate of each step."""

from __future__ import annotations

import math

from trainer.spec import Optimizer


def learning_rate(spec: Optimizer, step: int, steps: int) -> float:
    """The rate of step `step` of `steps` (from 1): linear warm-up, then the schedule from full rate towards zero."""
    warmup = round(spec.warmup * steps)
    if step <= warmup:
        return spec.learning_rate * step / warmup
    done = (step - 1 - warmup) / max(1, steps - warmup)
    factor = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[spec.schedule]
    return spec.learning_rate * factor

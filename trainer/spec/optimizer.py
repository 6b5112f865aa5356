"""How the adapter's weights move."""

from __future__ import annotations

from typing import Literal

from trainer.spec.setting import Section, setting


class Optimizer(Section):
    """How the adapter's weights are moved."""

    learning_rate: float = setting(
        2e-4, "Learning rate", "Higher: learns faster, may diverge.", level="basic", gt=0.0, le=1.0
    )
    weight_decay: float = setting(0.0, "Weight decay", "Higher: pulls the adapter towards zero.", ge=0.0, le=1.0)
    warmup: float = setting(
        0.03, "Warm-up", "Part of the steps in which the rate rises from zero.", unit="of all steps", ge=0.0, le=1.0
    )
    schedule: Literal["cosine", "linear", "constant"] = setting(
        "cosine", "Schedule", "How the rate falls after the warm-up."
    )
    max_grad_norm: float = setting(1.0, "Gradient clipping", "Lower: calmer steps. Zero: no clipping.", ge=0.0)

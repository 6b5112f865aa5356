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
    schedule: Literal["cosine", "linear", "constant", "step"] = setting(
        "cosine", "Schedule", "How the rate falls after the warm-up."
    )
    restarts: int = setting(
        0,
        "Restarts",
        "How often a cosine or linear schedule begins again at the full rate.",
        level="expert",
        ge=0,
        le=100,
    )
    step_drops: int = setting(
        2, "Drops", "How often the `step` schedule lowers the rate, after equal parts of the run.", level="expert", ge=1
    )
    step_factor: float = setting(
        0.1, "Drop factor", "What a drop of the `step` schedule multiplies the rate by.", level="expert", gt=0.0, lt=1.0
    )
    kind: Literal["adamw", "adamw-fused", "adamw-8bit", "adamw-8bit-paged"] = setting(
        "adamw-fused",
        "Optimiser",
        "`fused`: the same in fewer kernels. `8bit`: a quarter of its memory. `paged`: spills into main memory. "
        "`paged` acts on NVIDIA GPUs only, `8bit` on CPUs too.",
    )
    beta1: float = setting(
        0.9, "Beta 1", "Higher: the direction follows older gradients longer.", level="expert", ge=0.0, lt=1.0
    )
    beta2: float = setting(
        0.999, "Beta 2", "Higher: the size of a step follows older gradients longer.", level="expert", ge=0.0, lt=1.0
    )
    max_grad_norm: float = setting(1.0, "Gradient clipping", "Lower: calmer steps. Zero: no clipping.", ge=0.0)

"""The optimisers by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from trainer.errors import TrainError
from trainer.spec import Optimizer


def make_optimizer(spec: Optimizer, parameters: Iterable[torch.nn.Parameter], device: str) -> Any:
    """The optimiser that was asked for; raises `TrainError` where it does not work on this device."""
    settings: dict[str, Any] = {
        "lr": spec.learning_rate,
        "betas": (spec.beta1, spec.beta2),
        "weight_decay": spec.weight_decay,
    }
    if spec.kind in ("adamw", "adamw-fused"):
        return torch.optim.AdamW(parameters, **settings, fused=spec.kind == "adamw-fused" or None)
    if device == "mps" or (device == "cpu" and spec.kind == "adamw-8bit-paged"):
        why = "a CPU has no second memory to spill into" if device == "cpu" else "bitsandbytes has no kernels for it"
        raise TrainError(
            "device-setting",
            f"`optimizer.kind` {spec.kind} cannot act on {device}: {why}.",
            "Choose `adamw`, or on a CPU also `adamw-8bit`.",
        )
    try:
        import bitsandbytes
    except (ImportError, OSError, RuntimeError) as error:
        raise TrainError(
            "device-setting",
            f"`optimizer.kind` {spec.kind} cannot act here: bitsandbytes does not load ({error}).",
            "Choose `adamw-fused`, or install the dependencies again.",
        ) from error
    kinds = {"adamw-8bit": bitsandbytes.optim.AdamW8bit, "adamw-8bit-paged": bitsandbytes.optim.PagedAdamW8bit}
    return kinds[spec.kind](parameters, **settings)

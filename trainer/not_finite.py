"""What to say when a loss or a gradient is no longer a number: the step, and the layer where it begins."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from trainer.errors import TrainError

REMEDY = "Lower `optimizer.learning_rate`, or set `training.precision` to `fp32`; the last checkpoint is kept."


def require_finite(model: Any, again: Iterable[torch.Tensor], step: int, loss: float, grad_norm: float) -> None:
    """Raise `TrainError` for a loss or gradient that is not finite, before the optimiser takes it into the weights.

    `again` computes the step's losses once more, with a look at every layer: a run without trouble pays nothing.
    """
    if not math.isfinite(loss):
        layer = first_bad_layer(model, again)
        where = f"; the first layer whose output is not a number is {layer}" if layer else ""
        raise TrainError("loss-not-finite", f"The loss became {loss} at step {step}{where}.", REMEDY)
    if not math.isfinite(grad_norm):
        bad = [
            name
            for name, parameter in model.named_parameters()
            if parameter.grad is not None and not parameter.grad.isfinite().all()
        ]
        # Gradients flow from the last layer to the first, so it begins with the last of the model.
        where = f"; it begins at {bad[-1]}" if bad else ""
        raise TrainError("loss-not-finite", f"The gradient became {grad_norm} at step {step}{where}.", REMEDY)


def first_bad_layer(model: Any, again: Iterable[torch.Tensor]) -> str | None:
    """The first layer, in the order of computing, whose output holds a value that is not finite."""
    found: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            if not found and isinstance(tensor, torch.Tensor) and not tensor.isfinite().all():
                found.append(name)

        return hook

    leaves = [(name, module) for name, module in model.named_modules() if not any(True for _ in module.children())]
    hooks = [module.register_forward_hook(look(name)) for name, module in leaves]
    try:
        with torch.no_grad():
            for _ in again:
                pass
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None

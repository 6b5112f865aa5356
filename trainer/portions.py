"""The loss of one optimiser step, computed in portions that fit the device's memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator

from trainer.data.batches import Batch


def forward_and_backward(accelerator: Accelerator, model: Any, batches: Sequence[Batch]) -> float:
    """Add up the gradients of all batches; returns their loss, each scored token weighing the same."""
    total = torch.zeros((), device=accelerator.device)
    for share in losses(accelerator, model, batches):
        accelerator.backward(share)
        total += share.detach()
    return total.item()


def losses(accelerator: Accelerator, model: Any, batches: Sequence[Batch]) -> Iterator[torch.Tensor]:
    """Each batch's share of the mean cross-entropy over the scored tokens of all."""
    scored = sum(batch.scored for batch in batches)
    for batch in batches:
        yield _loss(accelerator, model, batch) * (batch.scored / scored)


def _loss(accelerator: Accelerator, model: Any, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy over the batch's scored tokens."""
    device = accelerator.device
    with accelerator.autocast():
        found: torch.Tensor = model(
            input_ids=batch.input_ids.to(device),
            attention_mask=batch.attention_mask.to(device),
            labels=batch.labels.to(device),
        ).loss
    return found

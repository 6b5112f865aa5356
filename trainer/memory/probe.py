"""One real step before the first, to measure what it holds; afterwards everything is as it was, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from trainer.data.batches import Batch
from trainer.memory.peak import begin, peak
from trainer.portions import Portions
from trainer.snapshot import Progress, put_back_random, put_trainable, take_random, trainable


def measure(model: Any, optimizer: Any, portions: Portions, batch: Batch, progress: Progress, device: str) -> int:
    """The peak in bytes of a forward and backward pass beside full gradients and the optimiser's state.

    A step of rate zero comes first, because only then is there what every later step holds. Where memory runs out
    on a GPU, `progress` is changed as in training, and the smaller step is what is measured.
    """
    with as_before(model, optimizer):
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        getattr(optimizer, "optimizer", optimizer).step()  # without the scaler of fp16, which wants a loss first
        begin(device)
        portions.forward_and_backward([batch], progress)
        return peak(device)


@contextmanager
def as_before(model: Any, optimizer: Any) -> Iterator[None]:
    """Put back weights, gradients, optimiser and random states, whatever happens in between."""
    weights, state, random = trainable(model), copy.deepcopy(optimizer.state_dict()), take_random()
    try:
        yield
    finally:
        model.zero_grad(set_to_none=True)
        optimizer.load_state_dict(state)
        put_trainable(model, weights)
        put_back_random(*random)

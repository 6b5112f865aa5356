"""The loss of a frozen head without its whole table of logits: a portion of places at a time, gradient and all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import linear

from trainer.speed import places_at_once, places_in_cache


class HeadLoss(torch.autograd.Function):
    """Mean cross-entropy of softmax(h W' + b) for h of shape [places, width], W [vocabulary, width] and b frozen.

    With label smoothing e a place's loss is lse(z) - (1 - e) z_target - e mean(z), as torch's own. Its gradient by the
    logits z is softmax(z) less what the target is to be; it takes their place, is taken through W in the forward pass and
    kept as [places, width]. Places without a target are filler.
    """

    @staticmethod
    def forward(
        ctx: Any, h: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor, e: float
    ) -> torch.Tensor:
        places = places_at_once(len(weight), h.element_size())
        total = torch.zeros((), device=h.device)
        gradient = torch.empty_like(h) if ctx.needs_input_grad[0] else None
        for start in range(0, len(h), places):
            part, wanted = h[start : start + places], targets[start : start + places]
            logits = linear(part, weight, bias)
            total += _loss(logits, wanted, e)
            if gradient is not None:
                torch.mm(logits.to(h.dtype), weight, out=gradient[start : start + places])
            del logits  # before the next portion's are made
        ctx.save_for_backward(gradient)
        ctx.targets = len(targets)
        return total / len(targets)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * (gradients[0] / ctx.targets).to(gradient.dtype), None, None, None, None


def _loss(logits: torch.Tensor, targets: torch.Tensor, e: float) -> torch.Tensor:
    """The summed loss of [places, vocabulary]; the logits become their own gradient, that of filler zero."""
    total, vocabulary = torch.zeros((), device=logits.device), logits.shape[1]
    logits[len(targets) :] = 0
    at_once = places_in_cache(vocabulary, logits.device.type)
    for start in range(0, len(targets), at_once):
        wanted = targets[start : start + at_once, None]
        part = logits[start : start + len(wanted)]
        shares = torch.softmax(part, -1, dtype=torch.float32)
        highest, place = part.max(-1, keepdim=True)
        # The likeliest token's share is at least one of the vocabulary's, so its logarithm is always sound.
        lse = highest.float() - shares.gather(1, place).log()
        total += (lse - (1 - e) * part.gather(1, wanted).float()).sum()
        if e:
            total -= e * part.mean(-1, dtype=torch.float32).sum()
            shares -= e / vocabulary
        part.copy_(shares.scatter_add_(1, wanted, shares.new_full(wanted.shape, e - 1)))
    return total


class Head:
    """A model's output layer, frozen and plain, so that the model can be asked for what goes into it."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        self._layer = layer

    @classmethod
    def of(cls, model: Any) -> Head | None:
        """The head; None where it is no plain linear layer, or is trained."""
        layer = model.get_output_embeddings()
        plain = type(layer) is torch.nn.Linear and not any(each.requires_grad for each in layer.parameters())
        return cls(layer) if plain else None

    @contextmanager
    def left_out(self, times: float = 1.0) -> Iterator[None]:
        """Inside, the model gives what would go into its head in place of logits, `times` as much."""
        self._layer.forward = lambda hidden: hidden * times if times != 1.0 else hidden
        try:
            yield
        finally:
            del self._layer.forward

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Of what the model gave: [places, width] to [places, vocabulary]."""
        return linear(hidden, self._layer.weight, self._layer.bias)

    def loss(self, hidden: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
        """Mean cross-entropy, in nats."""
        found: torch.Tensor = HeadLoss.apply(hidden, self._layer.weight, self._layer.bias, targets, smoothing)
        return found

"""Causal attention of one short row on a CPU, by plain matrix products."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch


class ShortRow(torch.autograd.Function):
    """softmax(s q k' + mask) v for q of shape [heads, length, size] and k, v of [groups, length, size].

    Heads that share their keys are stacked under each other, so that keys and values are not repeated. Torch's own
    kernel takes several times as long for its backward pass at these lengths.
    """

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        heads, length, size = q.shape
        groups = k.shape[0]
        q = q.reshape(groups, -1, size)
        scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=scale)
        scores.view(heads, length, length).add_(later(length, q.dtype))
        shares = torch.softmax(scores, -1, dtype=torch.float32).to(q.dtype)
        ctx.save_for_backward(q, k, v, shares)
        ctx.scale = scale
        return torch.bmm(shares, v).view(heads, length, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, shares = ctx.saved_tensors
        g = gradients[0]
        heads, length = g.shape[:2]
        g = g.reshape(k.shape[0], -1, v.shape[2])
        dv = torch.bmm(shares.transpose(1, 2), g)
        dshares = torch.bmm(g, v.transpose(1, 2))
        dscores = torch.ops.aten._softmax_backward_data(dshares.float(), shares.float(), -1, torch.float32).to(q.dtype)
        dq = torch.baddbmm(q.new_empty(()), dscores, k, beta=0, alpha=ctx.scale)
        dk = torch.baddbmm(q.new_empty(()), dscores.transpose(1, 2), q, beta=0, alpha=ctx.scale)
        return dq.view(heads, length, -1), dk, dv, None


@lru_cache(64)
def later(length: int, dtype: torch.dtype) -> torch.Tensor:
    """Minus infinity where a token would see a later one, else zero; of shape [length, length]."""
    return torch.full((length, length), -torch.inf, dtype=dtype).triu(1)

"""Matrix products over many tokens in blocks of one size.

In bf16 on a CPU oneDNN makes its kernels anew for each shape of a product: about a millisecond and up to two megabytes
each. Batches differ in their number of tokens, so a run would spend a third of its first epoch making kernels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from trainer.speed import BLOCK


def makes_kernels(x: torch.Tensor) -> bool:
    """Whether products of such tensors cost kernels by shape."""
    return x.device.type == "cpu" and x.dtype == torch.bfloat16


def products(*terms: tuple[torch.Tensor, torch.Tensor, float]) -> torch.Tensor:
    """The sum of scale x weight over terms (x, weight, scale), for x of shape [tokens, in] and weight [in, out]."""
    x, weight, _ = terms[0]
    total = x.new_empty(len(x), weight.shape[1])
    for part in _blocks(x):
        for number, (x, weight, scale) in enumerate(terms):
            total[part].addmm_(x[part], weight, beta=min(number, 1), alpha=scale)
    return total


def over_tokens(g: torch.Tensor, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """scale g' x, the sum over tokens, in fp32; for g of shape [tokens, out] and x [tokens, in]."""
    total = torch.zeros(g.shape[1], x.shape[1], device=x.device)
    for part in _blocks(x):
        total.add_(g[part].t() @ x[part], alpha=scale)
    return total


def _blocks(x: torch.Tensor) -> Iterator[slice]:
    size = BLOCK if makes_kernels(x) else max(1, len(x))
    return (slice(start, start + size) for start in range(0, len(x), size))

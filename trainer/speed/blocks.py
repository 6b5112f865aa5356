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


def times(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x weight, for x of shape [tokens, in] and weight [in, out]."""
    if len(x) <= BLOCK or not makes_kernels(x):
        return x @ weight
    product = x.new_empty(len(x), weight.shape[1])
    for part in _blocks(len(x)):
        torch.mm(x[part], weight, out=product[part])
    return product


def add_times(y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, scale: float = 1.0) -> None:
    """Add scale x weight to y, for y of shape [tokens, out]."""
    for part in _blocks(len(x)) if makes_kernels(x) else (slice(None),):
        y[part].addmm_(x[part], weight, alpha=scale)


def over_tokens(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """g' x, the sum over tokens, in fp32; for g of shape [tokens, out] and x [tokens, in]."""
    if not makes_kernels(x):
        return (g.t() @ x).float()
    return sum((g[part].t() @ x[part]).float() for part in _blocks(len(x)))


def _blocks(tokens: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, tokens, BLOCK))

"""Causal attention of short rows on a CPU, by plain matrix products over rows of like length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch

from trainer.speed.like_lengths import cuts


@dataclass(frozen=True)
class Group:
    """Rows that are padded to the `longest` of them, for their attention alone; `take` are their tokens and padding."""

    rows: int
    longest: int
    take: torch.Tensor

    @property
    def places(self) -> int:
        """Tokens and padding."""
        return self.rows * self.longest


@dataclass(frozen=True)
class Groups:
    """All rows in groups; `back` is where each token lies in the groups laid end to end."""

    groups: tuple[Group, ...]
    back: torch.Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], step: int = 1) -> Groups:
        """Group rows, given from short to long; they are padded to multiples of `step`."""
        starts = [0, *accumulate(lengths)]
        groups: list[Group] = []
        back = []
        for first, after in cuts(lengths):
            place = torch.arange(-(-lengths[after - 1] // step) * step)
            begins = torch.tensor(starts[first:after])[:, None]
            own = torch.tensor(lengths[first:after])[:, None]
            before = sum(group.places for group in groups)
            # Padding repeats a row's last token: the mask hides it from those before it, and nobody reads what it gives.
            take = (begins + place.minimum(own - 1)).flatten()
            groups.append(Group(after - first, len(place), take))
            back.append((torch.arange(after - first)[:, None] * len(place) + place)[place < own] + before)
        return cls(tuple(groups), torch.cat(back))


class ShortRows(torch.autograd.Function):
    """softmax(s q k' + mask) v within each row, for q [heads, tokens, size], k and v [fewer heads, tokens, size].

    Gives [tokens, heads, size]. Torch's own kernel takes several times as long for its backward pass at these lengths.
    """

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, groups: Groups
    ) -> torch.Tensor:
        heads, kept, given = q.shape[0], [], []
        for group in groups.groups:
            taken = _taken(v, group)  # `v` may be a part of a larger tensor, which keeping it would keep
            one, other, values = _rows(_taken(q, group), heads), _rows(_taken(k, group), heads), _rows(taken, heads)
            scores = torch.baddbmm(later(group.longest, q.dtype), one, other.transpose(1, 2), alpha=scale)
            shares = torch.softmax(scores, -1)
            kept += [taken, shares]
            given.append(torch.bmm(shares, values).view(heads, group.places, -1).transpose(0, 1))
        ctx.save_for_backward(q, k, *kept)
        ctx.scale, ctx.groups = scale, groups
        return torch.cat(given).index_select(0, groups.back)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, *kept = ctx.saved_tensors
        heads, size, groups = q.shape[0], q.shape[2], ctx.groups.groups
        g = gradients[0].new_zeros(sum(group.places for group in groups), heads, gradients[0].shape[2])
        parts = g.index_copy_(0, ctx.groups.back, gradients[0]).split([group.places for group in groups])
        found: tuple[list[torch.Tensor], ...] = ([], [], [])
        for number, (group, part) in enumerate(zip(groups, parts, strict=True)):
            values, shares = _rows(kept[2 * number], heads), kept[2 * number + 1]
            one, other = _rows(_taken(q, group), heads), _rows(_taken(k, group), heads)
            part = part.transpose(0, 1).reshape(-1, group.longest, part.shape[2])
            dshares = torch.bmm(part, values.transpose(1, 2))
            dscores = torch.ops.aten._softmax_backward_data(dshares, shares, -1, shares.dtype)
            found[0].append(_times(dscores, other, ctx.scale).view(heads, -1, size))
            found[1].append(_times(dscores.transpose(1, 2), one, ctx.scale).view(heads, -1, size))
            found[2].append(torch.bmm(shares.transpose(1, 2), part).view(heads, group.places, -1))
        dq, dk, dv = (torch.cat(each, 1).index_select(1, ctx.groups.back) for each in found)
        return dq, _summed(dk, k.shape[0]), _summed(dv, k.shape[0]), None, None


def _taken(each: torch.Tensor, group: Group) -> torch.Tensor:
    """The group's tokens and padding, of shape [heads, rows, longest, size]."""
    return each.index_select(1, group.take).view(-1, group.rows, group.longest, each.shape[2])


def _rows(each: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of all heads one after the other, [heads * rows, longest, size]; heads that share their keys get copies."""
    own = each.shape[0]
    copies = each[:, None].expand(own, heads // own, *each.shape[1:])
    return copies.reshape(-1, *each.shape[2:])


def _times(one: torch.Tensor, other: torch.Tensor, scale: float) -> torch.Tensor:
    return torch.baddbmm(one.new_empty(()), one, other, beta=0, alpha=scale)


def _summed(g: torch.Tensor, heads: int) -> torch.Tensor:
    """The gradients of copies, added up."""
    return g if g.shape[0] == heads else g.view(heads, -1, *g.shape[1:]).sum(1)


@lru_cache(64)
def later(length: int, dtype: torch.dtype) -> torch.Tensor:
    """Minus infinity where a token would see a later one, else zero; of shape [length, length]."""
    return torch.full((length, length), -torch.inf, dtype=dtype).triu(1)

"""Causal attention of short rows on a CPU, by plain matrix products over rows of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch.nn.functional import pad

from trainer.speed.like_lengths import cuts


class Group(NamedTuple):
    """Rows that are padded to the `longest` of them, for their attention alone."""

    rows: int
    longest: int


class Places(NamedTuple):
    """Where vectors of heads lie, in order of tokens and in order of groups.

    In order of tokens there is one for each token and head; in order of groups one for each shared head, row, head that
    shares it, and token or padding.
    """

    grouped: torch.Tensor  # padding repeats a row's last token: the mask hides it, and nobody reads what it gives
    or_zero: torch.Tensor  # the same, but padding is the place behind all
    back: torch.Tensor

    @classmethod
    def of(cls, tokens: Sequence[torch.Tensor], real: Sequence[torch.Tensor], shared: int, sharing: int) -> Places:
        """From the [rows, longest] tokens of each group, and which of them are real."""
        head = torch.arange(shared * sharing).view(shared, 1, sharing, 1)
        grouped = torch.cat([(each[:, None] * len(head) * sharing + head).flatten() for each in tokens])
        counts = torch.cat([each[:, None].expand(shared, -1, sharing, -1).flatten() for each in real])
        places = int(counts.sum())
        back = torch.empty(places, dtype=torch.long)
        back[grouped[counts]] = counts.nonzero()[:, 0]
        return cls(grouped, grouped.where(counts, places), back)


class Groups:
    """All rows in groups, from short to long."""

    def __init__(self, lengths: Sequence[int], step: int = 1) -> None:
        """Rows are padded to multiples of `step`."""
        starts = torch.tensor([0, *accumulate(lengths)])
        self.groups: list[Group] = []
        self._tokens, self._real = [], []
        for first, after in cuts(lengths):
            place = torch.arange(-(-lengths[after - 1] // step) * step)
            begins, ends = starts[first:after, None], starts[first + 1 : after + 1, None]
            self.groups.append(Group(after - first, len(place)))
            self._tokens.append((begins + place).minimum(ends - 1))
            self._real.append(begins + place < ends)
        self._places: dict[tuple[int, int], Places] = {}

    def places(self, shared: int, sharing: int = 1) -> Places:
        """For so many shared heads, each shared by so many."""
        key = (shared, sharing)
        if key not in self._places:
            self._places[key] = Places.of(self._tokens, self._real, *key)
        return self._places[key]

    def parts(self, flat: torch.Tensor, shared: int, sharing: int = 1) -> Iterator[torch.Tensor]:
        """Of vectors in order of groups, those of each group: [shared * rows, sharing * longest, size]."""
        sizes = [shared * group.rows * sharing * group.longest for group in self.groups]
        for group, part in zip(self.groups, flat.split(sizes), strict=True):
            yield part.view(shared * group.rows, sharing * group.longest, -1)


class ShortRows(torch.autograd.Function):
    """softmax(s q k' + mask) v within each row, for q [heads, tokens, size], k and v [fewer heads, tokens, size].

    Gives [tokens, heads, size]. The heads that share keys are computed as more queries of one. Torch's own kernel takes
    several times as long for its backward pass at these lengths.
    """

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, groups: Groups
    ) -> torch.Tensor:
        heads, shared, tokens = len(q), len(k), q.shape[1]
        own, theirs = (shared, heads // shared), (shared,)
        queries, keys = groups.places(*own), groups.places(*theirs)
        one = _flat(q).index_select(0, queries.grouped)
        other, values = (_flat(each).index_select(0, keys.grouped) for each in (k, v))
        given = one.new_empty(len(one), v.shape[2])
        all_shares = []
        each_of = (groups.parts(one, *own), groups.parts(other, shared), groups.parts(values, shared))
        for group, a, b, c, out in zip(groups.groups, *each_of, groups.parts(given, *own), strict=True):
            mask = later(group.longest, own[1], q.dtype)
            shares = torch.softmax(torch.baddbmm(mask, a, b.transpose(1, 2), alpha=scale), -1)
            torch.bmm(shares, c, out=out)
            all_shares.append(shares)
        ctx.save_for_backward(one, other, values, *all_shares)
        ctx.scale, ctx.groups, ctx.heads = scale, groups, (own, theirs)
        return given.index_select(0, queries.back).view(tokens, heads, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        one, other, values, *all_shares = ctx.saved_tensors
        groups, (own, theirs) = ctx.groups, ctx.heads
        queries, keys = groups.places(*own), groups.places(*theirs)
        g = pad(gradients[0].reshape(-1, values.shape[1]), (0, 0, 0, 1)).index_select(0, queries.or_zero)
        dq, dk, dv = torch.empty_like(one), torch.empty_like(other), torch.empty_like(values)
        of_queries = (groups.parts(each, *own) for each in (one, g, dq))
        of_keys = (groups.parts(each, *theirs) for each in (other, values, dk, dv))
        for shares, a, part, da, b, c, db, dc in zip(all_shares, *of_queries, *of_keys, strict=True):
            dshares = torch.bmm(part, c.transpose(1, 2))
            dscores = torch.ops.aten._softmax_backward_data(dshares, shares, -1, shares.dtype)
            torch.baddbmm(da, dscores, b, beta=0, alpha=ctx.scale, out=da)
            torch.baddbmm(db, dscores.transpose(1, 2), a, beta=0, alpha=ctx.scale, out=db)
            torch.bmm(shares.transpose(1, 2), part, out=dc)
        found = (each.index_select(0, places.back) for each, places in ((dq, queries), (dk, keys), (dv, keys)))
        counts = (own[0] * own[1], own[0], own[0])
        dq, dk, dv = (
            each.view(-1, heads, each.shape[1]).transpose(0, 1) for each, heads in zip(found, counts, strict=True)
        )
        return dq, dk, dv, None, None


def _flat(each: torch.Tensor) -> torch.Tensor:
    """Vectors of [heads, tokens, size] in order of tokens, [tokens * heads, size]."""
    return each.transpose(0, 1).reshape(-1, each.shape[2])


@lru_cache(64)
def later(length: int, sharing: int, dtype: torch.dtype) -> torch.Tensor:
    """Minus infinity where a token would see a later one, else zero; of shape [sharing * length, length]."""
    return torch.full((length, length), -torch.inf, dtype=dtype).triu(1).repeat(sharing, 1)

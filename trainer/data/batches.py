"""The order of rows and their shape as tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from trainer.data.masks import IGNORED, Example
from trainer.data.token_cache import StoredExamples
from trainer.vision.sight import Seen

WINDOW = 8  # padded batches that are sorted by length together: little padding, still a random order


@dataclass(frozen=True)
class Batch:
    """Right-padded rows of shape [rows, longest]; `tokens` and `scored` count real tokens only.

    `seen` are the pictures of each row, where any has some.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    tokens: int
    scored: int
    seen: tuple[Seen | None, ...] = ()

    def part(self, rows: slice) -> Batch:
        """Some of the rows, padded no further than the longest of them."""
        longest = int(self.attention_mask[rows].sum(1).max())
        labels, mask = self.labels[rows, :longest], self.attention_mask[rows, :longest]
        scored = int((labels[:, 1:] != IGNORED).sum())
        ids, seen = self.input_ids[rows, :longest], self.seen[rows]
        return Batch(ids, mask, labels, tokens=int(mask.sum()), scored=scored, seen=seen)


def collate(examples: Sequence[Example], pad: int) -> Batch:
    """Pad rows to the longest of them."""
    longest = max(len(example.ids) for example in examples)
    ids = torch.full((len(examples), longest), pad)
    labels = torch.full((len(examples), longest), IGNORED)
    mask = torch.zeros((len(examples), longest), dtype=torch.long)
    for row, example in enumerate(examples):
        length = len(example.ids)
        ids[row, :length] = torch.tensor(example.ids)
        labels[row, :length] = torch.tensor(example.labels)
        mask[row, :length] = 1
    # The first position of a row has nothing before it to be predicted from, so it never counts as scored.
    seen = tuple(example.seen for example in examples)
    scored = int((labels[:, 1:] != IGNORED).sum())
    return Batch(ids, mask, labels, tokens=int(mask.sum()), scored=scored, seen=seen if any(seen) else ())


def epoch_order(lengths: Sequence[int], batch_size: int, seed: int, epoch: int, *, by_length: bool) -> list[list[int]]:
    """Row numbers of each batch of one epoch: shuffled; `by_length`, grouped within windows and shuffled again."""
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    window = (WINDOW if by_length else 1) * batch_size
    batches = []
    for start in range(0, len(order), window):
        rows = sorted(order[start : start + window], key=lambda row: lengths[row])
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def row_lengths(examples: Sequence[Example]) -> Sequence[int]:
    """Tokens of each row, without reading stored rows."""
    return examples.row_lengths if isinstance(examples, StoredExamples) else [len(example.ids) for example in examples]


def rows_with_pictures(examples: Sequence[Example]) -> Sequence[int]:
    """Which rows have some, without reading stored rows."""
    if isinstance(examples, StoredExamples):
        return examples.with_pictures
    return [row for row, example in enumerate(examples) if example.seen]


def training_batches(
    examples: Sequence[Example], pad: int, batch_size: int, seed: int, taken: int = 0, *, by_length: bool = False
) -> Iterator[Batch]:
    """Endless batches, epoch after epoch, the same for the same seed; the first `taken` of them are passed over.

    With rows of like length in a batch, `by_length`, there is little padding, which nothing else needs.
    """
    for rows in training_order(row_lengths(examples), batch_size, seed, taken, by_length=by_length):
        yield collate([examples[row] for row in rows], pad)


def training_order(
    lengths: Sequence[int], batch_size: int, seed: int, taken: int, *, by_length: bool
) -> Iterator[list[int]]:
    """The row numbers of those batches."""
    epoch, taken = divmod(taken, math.ceil(len(lengths) / batch_size))
    while True:
        yield from epoch_order(lengths, batch_size, seed, epoch, by_length=by_length)[taken:]
        epoch, taken = epoch + 1, 0

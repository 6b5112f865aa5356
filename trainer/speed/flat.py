"""Rows laid end to end, so that no layer computes padding and the head sees scored places only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from trainer.data.batches import Batch
from trainer.data.masks import IGNORED
from trainer.speed.attention import Attention, RowLengths


@dataclass(frozen=True)
class FlatBatch:
    """Several rows as one of shape [1, tokens].

    `positions` begin anew in each row and `lengths` says where rows end. The logits at the places `scored_at`, of
    shape [scored], are to predict the `targets`.
    """

    input_ids: torch.Tensor
    positions: torch.Tensor
    lengths: RowLengths
    scored_at: torch.Tensor
    targets: torch.Tensor


def flatten(batch: Batch) -> FlatBatch:
    """The same rows without padding, and without what comes after a row's last prediction: it can change nothing."""
    labels = batch.labels[:, 1:]
    scored = labels != IGNORED
    place = torch.arange(1, labels.shape[1] + 1)
    lengths = (scored * place).amax(1)
    kept = place[None] <= lengths[:, None]
    return FlatBatch(
        batch.input_ids[:, :-1][kept][None],
        (place - 1).expand(kept.shape)[kept][None],
        RowLengths([length for length in lengths.tolist() if length]),
        scored[kept].nonzero()[:, 0],
        labels[scored],
    )


class Flat:
    """Computes a batch as one long row; the mathematics of each row is as before."""

    def __init__(self, model: Any) -> None:
        self._model, self._attention = model, Attention(model)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Forward and backward passes belong inside: layers may be computed again in the backward pass."""
        with self._attention.in_use():
            yield

    def loss(self, batch: Batch, smoothing: float) -> torch.Tensor:
        """Mean cross-entropy over the batch's scored tokens, in nats."""
        flat = flatten(batch)
        return torch.nn.functional.cross_entropy(
            self.logits(flat).float(), flat.targets.to(self._model.device), label_smoothing=smoothing
        )

    def logits(self, flat: FlatBatch) -> torch.Tensor:
        """Logits at the scored places, of shape [scored, vocabulary]."""
        device = self._model.device
        logits: torch.Tensor = self._model(
            input_ids=flat.input_ids.to(device),
            position_ids=flat.positions.to(device),
            row_lengths=flat.lengths,
            logits_to_keep=flat.scored_at.to(device),
            use_cache=False,
        ).logits
        return logits[0]

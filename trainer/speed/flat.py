"""Rows laid end to end, so that no layer computes padding and the head sees scored places only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import pad

from trainer.data.batches import Batch
from trainer.data.masks import IGNORED
from trainer.speed import STEP, rounded
from trainer.speed.attention import Attention, RowLengths
from trainer.speed.head import Head
from trainer.vision.sight import inputs, parts_of_pictures

LARGE = 1000.0
Rope = Callable[..., tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class FlatBatch:
    """Several rows as one of shape [1, tokens]; `shown` are the inputs of its pictures.

    `positions`, of models that place pictures in several dimensions of shape [dimensions, 1, tokens], begin anew in each row and `lengths` says where rows end. The logits at the places `scored_at` are to
    predict the `targets`; where sizes are rounded up, more places are named than there are targets.
    """

    input_ids: torch.Tensor
    positions: torch.Tensor
    lengths: RowLengths
    scored_at: torch.Tensor
    targets: torch.Tensor
    shown: dict[str, torch.Tensor] = field(default_factory=dict)


def flatten(batch: Batch, *, even: bool = False, rope: Rope | None = None) -> FlatBatch:
    """The same rows from short to long, without padding, and without what comes after a row's last prediction or picture.

    With `even`, the numbers of tokens and of scored places are rounded up by filler. `rope` is the model's own way to place
    pictures in several dimensions.
    """
    labels = batch.labels[:, 1:]
    place = torch.arange(1, labels.shape[1] + 1)
    wanted, parts = labels != IGNORED, parts_of_pictures(batch.seen, batch.input_ids[:, :-1])
    needed = wanted | (parts.bool() & wanted.any(1, keepdim=True))
    lengths, order = (needed * place).amax(1).sort(stable=True)
    order, lengths = order[lengths > 0], lengths[lengths > 0]
    labels, ids, parts = labels[order], batch.input_ids[order, :-1], parts[order]
    scored, kept = labels != IGNORED, place[None] <= lengths[:, None]
    rows = RowLengths(lengths.tolist())
    found, positions = ids[kept][None], (place - 1).expand(kept.shape)[kept][None]
    at = scored[kept].nonzero()[:, 0]
    more = rounded(len(found[0])) - len(found[0]) if even else 0
    if even:
        rows.filler, rows.step = more, STEP
        at = pad(at, (0, rounded(len(at)) - len(at)))
    found = pad(found, (0, more))
    shown = inputs([batch.seen[row] for row in order.tolist()], found) if batch.seen else {}
    if rope and "image_grid_thw" in shown:
        placed, _ = rope(ids, parts, image_grid_thw=shown["image_grid_thw"], attention_mask=kept.long())
        positions = placed[:, kept][:, None]
    return FlatBatch(found, pad(positions, (0, more)), rows, at, labels[scored], shown)


class Flat:
    """Computes a batch as one long row; the mathematics of each row is as before."""

    def __init__(self, model: Any, head: Head | None = None) -> None:
        self._model, self._attention, self._head = model, Attention(model), head
        self.rope: Rope | None = next(
            filter(None, (getattr(each, "get_rope_index", None) for each in model.modules())), None
        )
        self._even = model.device.type == "cpu" and model.dtype == torch.bfloat16

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Forward and backward passes belong inside: layers may be computed again in the backward pass."""
        with self._attention.in_use():
            yield

    def loss(self, batch: Batch, smoothing: float) -> torch.Tensor:
        """Mean cross-entropy over the batch's scored tokens, in nats."""
        flat = flatten(batch, even=self._even, rope=self.rope)
        targets = flat.targets.to(self._model.device)
        if self._head is not None:
            return self._head.loss(self._hidden(flat, self._head), targets, smoothing)
        given = self._given(flat)[: len(targets)].float()
        return torch.nn.functional.cross_entropy(given, targets, label_smoothing=smoothing)

    def logits(self, flat: FlatBatch) -> torch.Tensor:
        """Logits at the scored places, of shape [scored, vocabulary]."""
        return self._head.logits(self._hidden(flat, self._head)) if self._head is not None else self._given(flat)

    def ends_with_its_head(self, flat: FlatBatch) -> bool:
        """Whether nothing but a factor follows the head: a soft cap would bend large logits."""
        if self._head is None:
            return True
        with self._head.left_out(LARGE):
            large = self._given(flat)
        return torch.allclose(large, LARGE * self._hidden(flat, self._head), rtol=0.02)

    def _hidden(self, flat: FlatBatch, head: Head) -> torch.Tensor:
        with head.left_out():
            return self._given(flat)

    def _given(self, flat: FlatBatch) -> torch.Tensor:
        """What the model gives at the scored places."""
        device = self._model.device
        given: torch.Tensor = self._model(
            input_ids=flat.input_ids.to(device),
            position_ids=flat.positions.to(device),
            row_lengths=flat.lengths,
            logits_to_keep=flat.scored_at.to(device),
            use_cache=False,
            **{name: value.to(device) for name, value in flat.shown.items()},
        ).logits
        return given[0]

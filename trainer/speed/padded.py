"""Rows side by side, padded to the longest: the ordinary way, which every model knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from trainer.data.batches import Batch
from trainer.data.masks import IGNORED
from trainer.vision.sight import inputs as shown


class Padded:
    """Computes a batch as it is."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Nothing has to be changed for it."""
        yield

    def loss(self, batch: Batch, smoothing: float) -> torch.Tensor:
        """Mean cross-entropy over the batch's scored tokens, in nats."""
        device = self._model.device
        labels = batch.labels.to(device)
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        inputs = {name: value.to(device) for name, value in (inputs | shown(batch.seen, batch.input_ids)).items()}
        if not smoothing:
            own: torch.Tensor = self._model(**inputs, labels=labels).loss
            return own
        logits = self._model(**inputs).logits[:, :-1].float().flatten(0, 1)
        return torch.nn.functional.cross_entropy(
            logits, labels[:, 1:].flatten(), ignore_index=IGNORED, label_smoothing=smoothing
        )

"""The head that tells classes apart: what its classes are called, and how it begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from trainer.models.parts import CLASSIFIER


def named(classes: Sequence[str]) -> dict[str, Any]:
    """What a configuration is told of the classes."""
    return {"id2label": dict(enumerate(classes)), "label2id": {name: number for number, name in enumerate(classes)}}


def renew_head(model: Any) -> None:
    """A head that finds every class equally likely: what it was before says nothing of these."""
    for weight in getattr(model, CLASSIFIER).parameters():
        torch.nn.init.zeros_(weight)

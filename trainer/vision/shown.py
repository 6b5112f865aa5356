"""Pictures with classes, in batches, as a model takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from trainer.data.batches import training_order
from trainer.data.samples import Picture, Place, Sample


@dataclass(frozen=True)
class Labelled:
    """One picture, and the number of its class."""

    picture: Picture
    label: int
    place: Place


@dataclass(frozen=True)
class Pictures:
    """A batch; its pictures are opened when a model takes them, so that only as many as it takes lie in memory."""

    rows: tuple[Labelled, ...]

    @property
    def labels(self) -> torch.Tensor:
        """The numbers of the classes, of shape [rows]."""
        return torch.tensor([row.label for row in self.rows])

    @property
    def tokens(self) -> int:
        """What is counted and what is scored are pictures here."""
        return len(self.rows)

    scored = tokens

    def part(self, rows: slice) -> Pictures:
        """Some of the rows."""
        return Pictures(self.rows[rows])


class Shown:
    """Computes a batch of pictures; `processor` is the model's own."""

    def __init__(self, model: Any, processor: Any) -> None:
        self._model, self._processor = model, processor

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Nothing has to be changed for it."""
        yield

    def loss(self, batch: Pictures, smoothing: float) -> torch.Tensor:
        """Mean cross-entropy over the batch's pictures, in nats."""
        logits = self.logits(batch.rows).float()
        return torch.nn.functional.cross_entropy(logits, batch.labels.to(logits.device), label_smoothing=smoothing)

    def logits(self, rows: Sequence[Labelled]) -> torch.Tensor:
        """Of shape [rows, classes]."""
        from trainer.vision.opening import open_picture  # loads slowly, and most runs read text alone

        opened = [open_picture(row.picture, row.place) for row in rows]
        values = self._processor(opened, return_tensors="pt")["pixel_values"]
        found: torch.Tensor = self._model(pixel_values=values.to(self._model.device, self._model.dtype)).logits
        return found


def labelled(samples: Sequence[Sample], classes: Sequence[str]) -> list[Labelled]:
    """The samples with the numbers of their classes."""
    numbers = {name: number for number, name in enumerate(classes)}
    return [Labelled(sample.pictures[0], numbers[sample.label], sample.place) for sample in samples]


def training_pictures(rows: Sequence[Labelled], batch_size: int, seed: int, taken: int) -> Iterator[Pictures]:
    """Endless batches, as `training_batches`."""
    for order in training_order([1] * len(rows), batch_size, seed, taken, by_length=False):
        yield Pictures(tuple(rows[row] for row in order))


def fingerprint(rows: Sequence[Labelled]) -> str:
    """SHA-256 of all classes with their pictures: of files the names and sizes."""
    digest = sha256()
    for row in rows:
        path = Path(row.picture.path)
        told = (
            f"{path.name} {path.stat().st_size}".encode() if row.picture.path else sha256(row.picture.content).digest()
        )
        digest.update(b"%d %d " % (row.label, len(told)) + told)
    return digest.hexdigest()

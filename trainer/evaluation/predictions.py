"""The judge of a model that tells classes of pictures apart: what it takes each for, and what it confuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.data.labels import require_known
from trainer.data.samples import Sample
from trainer.evaluation.comparison import WORST, Measure, as_record, better, loss_of_row, measure
from trainer.evaluation.intervals import percentiles, resampled_rows
from trainer.evaluation.judging import ROWS_AT_ONCE, Score, in_portions
from trainer.models.folder import read_config
from trainer.models.task import adapter_classes, own_classes
from trainer.vision.classifier import load_processor
from trainer.vision.shown import Labelled, Shown, labelled

CONFUSED, EXAMPLES = 10, 3  # pairs of classes that are told, and pictures of each
FRESH = "The base's head was new and had learned nothing, so it took every picture for {}."


class Predictions:
    """Judges by the share of pictures whose class is told right, and by how well each class is told."""

    def __init__(
        self,
        rows: Sequence[Sample],
        pictures: Sequence[Labelled],
        classes: Sequence[str],
        processor: Any,
        *,
        fresh: bool,
    ) -> None:
        self.rows = rows
        self._pictures, self._classes, self._processor, self._fresh = pictures, classes, processor, fresh

    def score(self, model: Any, _stopping: Callable[[], bool]) -> Score:
        """One side's: the nats of each picture's class, and the class that it takes the picture for."""
        nats, found = predicted(Shown(model, self._processor), self._pictures, model)
        right = sum(said == each.label for said, each in zip(found, self._pictures, strict=True))
        names: list[str | None] = [self._classes[number] for number in found]
        return Score(nats, [1] * len(nats), names, right / len(found))

    def compared(self, base: Score, tuned: Score) -> tuple[dict[str, Any], dict[str, Any]]:
        """What an event says of both sides, and what the file says beside it."""
        record = as_record(self._measures(base, tuned), len(self.rows))
        if self._fresh:
            record["verdict"] += f" {FRESH.format(self._classes[0])}"
        numbers = self._numbers(tuned)
        matrix = np.zeros((len(self._classes), len(self._classes)), dtype=int)
        np.add.at(matrix, (self._labels(), numbers), 1)
        confused = self._confused(tuned)
        more = {"worst": self._worst(base, tuned), "classes": list(self._classes), "confusion": matrix.tolist()}
        return record | {"confused": confused}, more

    def _measures(self, base: Score, tuned: Score) -> list[Measure]:
        labels, sides = self._labels(), [self._numbers(base), self._numbers(tuned)]
        right = np.array([(side == labels).astype(float) for side in sides])
        nats, ones = np.array([base.nats, tuned.nats]), np.ones(len(labels))
        return [
            measure("accuracy", right, ones),
            _macro_f1(labels, sides, len(self._classes)),
            measure("loss", nats, ones),
        ]

    def _labels(self) -> np.ndarray:
        return np.array([each.label for each in self._pictures])

    def _numbers(self, side: Score) -> np.ndarray:
        numbers = {name: number for number, name in enumerate(self._classes)}
        return np.array([numbers[str(name)] for name in side.answers])

    def _confused(self, tuned: Score) -> list[dict[str, Any]]:
        """The pairs that are confused most often: of which class, taken for which, how often, and some of the pictures."""
        pairs = [(row.label, str(said)) for row, said in zip(self.rows, tuned.answers, strict=True)]
        found = []
        for (label, said), count in Counter(pair for pair in pairs if pair[0] != pair[1]).most_common(CONFUSED):
            pictures = [
                row.pictures[0].path or str(row.place)
                for row, pair in zip(self.rows, pairs, strict=True)
                if pair == (label, said)
            ]
            of = sum(row.label == label for row in self.rows)
            found.append({"label": label, "said": said, "count": count, "of": of, "pictures": pictures[:EXAMPLES]})
        return found

    def _worst(self, base: Score, tuned: Score) -> list[dict[str, Any]]:
        """The pictures whose class is told wrong, the surest of them first."""
        rows: list[dict[str, Any]] = [
            {
                "place": str(row.place),
                "question": row.pictures[0].path or str(row.place),
                "expected": row.label,
                "base": base.answers[index],
                "tuned": tuned.answers[index],
                "right": row.label == tuned.answers[index],
                "base_loss": loss_of_row(base, index),
                "tuned_loss": loss_of_row(tuned, index),
            }
            for index, row in enumerate(self.rows)
        ]
        return sorted((row for row in rows if not row["right"]), key=lambda row: -(row["tuned_loss"] or 0.0))[:WORST]


def pictures_judge(base: Path, adapter: Path, rows: Sequence[Sample]) -> Predictions:
    """The judge of an adapter that lies in a folder; raises `TrainError` for a picture of a class that it does not know."""
    classes = adapter_classes(adapter)
    require_known(rows, classes, "the adapter")
    fresh = own_classes(read_config(base)) != classes
    return Predictions(rows, labelled(rows, classes), classes, load_processor(adapter), fresh=fresh)


def predicted(shown: Shown, pictures: Sequence[Labelled], model: Any) -> tuple[list[float], list[int]]:
    """The nats of each picture's class, and the class with the highest logit (of equal ones the first)."""

    def judged(rows: Sequence[Labelled]) -> list[tuple[float, int]]:
        logits = shown.logits(rows).float()
        labels = torch.tensor([row.label for row in rows], device=logits.device)
        nats = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        return list(zip(nats.tolist(), logits.argmax(-1).tolist(), strict=True))

    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            found = in_portions(pictures, ROWS_AT_ONCE, judged)
    finally:
        model.train(was_training)
    return [nats for nats, _ in found], [number for _, number in found]


def _macro_f1(labels: np.ndarray, sides: Sequence[np.ndarray], classes: int) -> Measure:
    """The mean of F1 over the classes that occur, each counting the same however many pictures it has."""
    values = [_f1(labels, side, classes) for side in sides]
    drawn = np.array(
        [[_f1(labels[rows], side[rows], classes) for side in sides] for rows in resampled_rows(len(labels))]
    ).T
    difference = percentiles(values[1] - values[0], drawn[1] - drawn[0])
    base, tuned = (percentiles(value, each) for value, each in zip(values, drawn, strict=True))
    changed = int((sides[0] != sides[1]).sum())
    return Measure("macro_f1", base, tuned, difference, better("macro_f1", difference, changed))


def _f1(labels: np.ndarray, said: np.ndarray, classes: int) -> float:
    right = np.bincount(labels[labels == said], minlength=classes)
    both = np.bincount(labels, minlength=classes) + np.bincount(said, minlength=classes)
    return float((2 * right[both > 0] / both[both > 0]).mean())

"""What the server says of base and tuned on held-out rows."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class IntervalView(BaseModel):
    """A value, and the range in which it would lie for 95 of 100 such sets of rows; None is no number."""

    value: float | None
    low: float | None
    high: float | None


class MeasureView(BaseModel):
    """One measure of both sides: shares from 0 to 1, loss in nats a token; `better` is None without a sure difference."""

    name: Literal["exact_match", "token_f1", "rouge_l", "accuracy", "macro_f1", "loss", "perplexity"]
    base: IntervalView
    tuned: IntervalView
    difference: IntervalView
    better: bool | None


class ConfusedPair(BaseModel):
    """Pictures of the class `label` that were taken for `said`: `count` of the `of` that were judged, and some of their files."""

    label: str
    said: str
    count: int
    of: int
    pictures: list[str]


class EvaluationView(BaseModel):
    """Base and tuned on the held-out rows; exact match is a share from 0 to 1, of pictures those whose class is told right. Without verdict until both are judged."""

    rows: int
    base_loss: float | None = None
    tuned_loss: float | None = None
    base_exact_match: float | None = None
    tuned_exact_match: float | None = None
    measures: list[MeasureView] = []
    verdict: str = ""
    confused: list[ConfusedPair] = []


class WorstRow(BaseModel):
    """A held-out row that the tuned model does badly on, with what both sides answered; long texts are cut."""

    place: str
    question: str
    expected: str
    base: str | None
    tuned: str | None
    base_loss: float | None
    tuned_loss: float | None


class WorstRows(BaseModel):
    worst: list[WorstRow]

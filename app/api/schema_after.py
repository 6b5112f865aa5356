"""What is done with a run after its end: judging it again, and taking it elsewhere."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.api.schema_evaluation import EvaluationView

Precision = Literal["fp32", "bf16", "fp16"]


class AfterView(BaseModel):
    """An evaluation or export of a run: what it is busy with, and what it has given once it is done.

    `proof` says how the exported model, read back from disk, compared with base and adapter.
    """

    run: str
    text: str
    output: str | None
    proof: str
    data: str | None
    evaluation: EvaluationView | None
    warnings: list[str]


class MergeRequest(BaseModel):
    """Where merged weights go (None: `merged` in the run's folder), and their precision (None: the base's own)."""

    output: str | None = None
    precision: Precision | None = None


class JudgeRequest(BaseModel):
    """The rows to judge a run on: a file or data set, or its own held-out rows; at most so many."""

    data: str | None = None
    rows: Annotated[int, Field(ge=1)] | None = None

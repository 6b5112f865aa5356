"""What the page is told while a data set is checked."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.api.schema import Problem
from trainer.data.formats import FormatName


class DataCheckRequest(BaseModel):
    """A data set to check: a file, a folder, or a name on the hub, as in the settings of a run."""

    train: str = Field(min_length=1, max_length=4000)
    held_out: str | None = Field(default=None, max_length=4000)
    format: FormatName = "auto"
    columns: str = Field(default="", max_length=4000)


class DataFinding(BaseModel):
    """One problem in its place; `meaning` and `fix` are those of its kind."""

    kind: str
    weight: Literal["error", "warning", "note"]
    file: str
    row: int
    line: int | None
    column: int | None
    field: str
    found: str
    detail: str
    meaning: str
    fix: str


class DataReport(BaseModel):
    """The whole of a check: what the data set is, and how many of its rows are of what kind."""

    name: str
    shape: str
    sound: bool
    rows: int
    usable: int
    duplicates: int
    formats: dict[str, int]
    dropped: dict[str, int]
    counts: dict[str, int]
    findings: list[DataFinding]
    partial: list[str]


class DataLine(BaseModel):
    """One line of a check: the first rows, how far it is, a finding, and last the report or a failure."""

    type: Literal["page", "progress", "finding", "done", "failed"]
    rows: list[Any] = []
    phase: str = ""
    share: float | None = None
    finding: DataFinding | None = None
    report: DataReport | None = None
    problem: Problem | None = None

"""What the page is told while a data set is checked."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.api.schema import Problem
from trainer.data.formats import FormatName
from trainer.spec.data import Data


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
    classes: dict[str, int]
    findings: list[DataFinding]
    partial: list[str]


class MendedPart(BaseModel):
    """What was done to how many rows; `title` completes "so many rows with …"."""

    title: str
    rows: int
    left_out: bool


class MendedView(BaseModel):
    """A mended copy of a data set, written beside it."""

    file: str
    rows: int
    done: list[MendedPart]


class DataLine(BaseModel):
    """One line of a check: the first rows, how far it is, a finding, and last the report or a failure."""

    type: Literal["page", "progress", "finding", "done", "failed"]
    rows: list[Any] = []
    phase: str = ""
    share: float | None = None
    finding: DataFinding | None = None
    report: DataReport | None = None
    problem: Problem | None = None


class PreviewRequest(BaseModel):
    """A page of rows as this model will see them under these settings; with `statistics` also what all rows come to."""

    model: str = Field(min_length=1, max_length=4000)
    data: Data
    first: int = Field(default=1, ge=1)
    rows: int = Field(default=5, ge=1, le=20)
    statistics: bool = True


class PreviewToken(BaseModel):
    """`text` is empty where a token is a further part of the character before it; of pictures the same stands `times` over."""

    id: int
    text: str
    state: Literal["trained", "context", "cut"]
    times: int = 1


class PreviewPicture(BaseModel):
    """A picture as the model takes it: its own size, its `tiles` as data URLs and the size of one, and how many tokens it is."""

    size: tuple[int, int]
    tile: tuple[int, int]
    tiles: list[str]
    tokens: int


class PreviewText(BaseModel):
    """One text that a row is learned from; `hidden` tokens of a very long one are not listed."""

    tokens: list[PreviewToken]
    hidden: int


class PreviewFinding(BaseModel):
    """What is worth knowing; `rows` is their number, 0 where it is said of one row."""

    kind: str
    sentence: str
    rows: int = 0


class PreviewRow(BaseModel):
    """A row by its number among those that are trained on, with counts of all its tokens."""

    number: int
    place: str
    trained: int
    context: int
    cut: int
    texts: list[PreviewText]
    pictures: list[PreviewPicture] = []
    findings: list[PreviewFinding]


class PreviewLengths(BaseModel):
    """`counts[n]` texts have from `edges[n]` to below `edges[n + 1]` tokens; on a log scale edges double."""

    scale: Literal["linear", "log"]
    edges: list[int]
    counts: list[int]


class PreviewStatistics(BaseModel):
    """All rows together; lengths are in tokens before the cut, `tokens` are those of the texts that are learned from."""

    rows: int
    held_out_rows: int
    left_out: list[str]
    texts: int
    tokens: int
    trained: int
    longest: int
    max_length: int
    longer: int
    lengths: PreviewLengths
    findings: list[PreviewFinding]


class PreviewLine(BaseModel):
    """One line of a preview: which template and why, the rows, how far it is, and what all rows come to."""

    type: Literal["template", "row", "progress", "statistics", "done", "failed"]
    text: str = ""
    share: float | None = None
    row: PreviewRow | None = None
    statistics: PreviewStatistics | None = None
    problem: Problem | None = None

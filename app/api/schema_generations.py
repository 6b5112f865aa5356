"""What the server says of environments that exist: their record, history, differences, and the room they take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field


class CheckView(BaseModel):
    """One thing that was looked at; `remedy` is None where it holds."""

    name: str
    ok: bool
    evidence: str
    remedy: str | None


class FailedStep(BaseModel):
    """An optional step that did not succeed when the environment was built."""

    title: str
    reason: str


class GenerationView(BaseModel):
    """A finished environment and what proved it; `bytes` are those of its files, shared ones included.

    `proved_by` names the generation whose proof of the same lock, machine and interpreter counted.
    `damage` is what a check or a repair found wrong with its files since, "" if nothing.
    """

    id: str
    created: float
    name: str
    note: str
    pinned: bool
    active: bool
    damage: str
    bytes: int
    packages: dict[str, str]
    overrides: dict[str, str]
    seconds: float
    python: str
    torch: str
    checks: list[CheckView]
    proved_by: str | None
    failed_steps: list[FailedStep]


class HistoryView(BaseModel):
    """One event in the life of the environments; `before` is the generation that was active until then."""

    time: float | None
    action: str
    generation: str
    before: str | None


class ChangeView(BaseModel):
    name: str
    before: str
    after: str


class DifferenceView(BaseModel):
    """What leads from one generation to another; the bytes are those on the disk that only one of them uses."""

    before: str
    after: str
    added: dict[str, str]
    removed: dict[str, str]
    changed: list[ChangeView]
    python: ChangeView | None
    only_before_bytes: int
    only_after_bytes: int
    shared_bytes: int


class RemovalView(BaseModel):
    """What deleting frees: by itself, not (used elsewhere), and in the cache if that is cleared too."""

    generations: list[str]
    freed_bytes: int
    kept_bytes: int
    cache_bytes: int


class DiskPart(BaseModel):
    """A part of the home folder; `freeable_bytes` can go without harm, and `how` says by what."""

    name: str
    title: str
    bytes: int
    freeable_bytes: int
    how: str


class DiskView(BaseModel):
    """Where the gigabytes are: a file that several parts share counts once, in the first of them."""

    home: str
    free_bytes: int
    parts: list[DiskPart]


class CapView(BaseModel):
    """A package that stays behind its newest release, and what keeps it there."""

    name: str
    version: str
    newest: str
    reason: str


class UpdateView(BaseModel):
    """What the newest versions that fit together would change; `pinned` and `versions` ask for them."""

    before: str
    added: dict[str, str]
    removed: dict[str, str]
    changed: list[ChangeView]
    capped: list[CapView]
    pinned: dict[str, str]
    versions: dict[str, str]


class ExportView(BaseModel):
    """A generation as a file that builds it again elsewhere."""

    file_name: str
    text: str


ExportFormat = Literal["json", "requirements", "pylock"]


class LabelRequest(BaseModel):
    """A new name, note or pin of a generation; what is None stays."""

    generation: str
    name: str | None = None
    note: str | None = None
    pinned: bool | None = None


class RemovalRequest(BaseModel):
    """Generations to delete; `with_cache` also clears the package cache of what no other uses."""

    generations: list[str]
    with_cache: bool = False


class KeepRequest(BaseModel):
    """How many of the newest generations stay after an installation; None keeps all."""

    keep: Annotated[int, Field(ge=1)] | None


class UpdateRequest(BaseModel):
    """The versions that a preview found."""

    pinned: dict[str, str]
    versions: dict[str, str]

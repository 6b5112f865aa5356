"""A mended copy of a data set for the page, in a place of its own beside the original."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from app.api.schema_data import DataCheckRequest, MendedPart, MendedView
from app.models import with_data_resolved
from trainer.data.doctor.repair import LEFT_OUT, write_mended
from trainer.data.problems import KINDS
from trainer.data.sources import find
from trainer.errors import TrainError
from trainer.spec.data import Data


def mended_copy(request: DataCheckRequest, python: Path | None) -> MendedView:
    """Write the copy; raises `TrainError` where nothing can be read, or nothing written there."""
    data = with_data_resolved(Data.model_validate(request.model_dump()))
    source = find(data.train)
    if source.path is None:
        raise TrainError(
            "data-output",
            "A data set of the hub has no folder of yours beside it for a mended copy.",
            "Name a place: `fettle data check hub:owner/name --fix mended.jsonl`.",
        )
    out = name_beside(source.path)
    rows, done = write_mended(source, data, python, out)
    parts = [
        MendedPart(title=KINDS[what.removeprefix(LEFT_OUT)].title, rows=number, left_out=what.startswith(LEFT_OUT))
        for what, number in done.most_common()
    ]
    return MendedView(file=str(out), rows=rows, done=parts)


def name_beside(path: Path) -> Path:
    """A name for the copy that nothing has yet, in the folder from which the names of pictures count."""
    return next(each for each in _names_beside(path) if not each.exists())


def _names_beside(path: Path) -> Iterator[Path]:
    """`rows.mended.jsonl`, `rows.mended-2.jsonl`, …"""
    if path.is_dir():  # the names of pictures count from there
        path = path / "metadata"
    stem = path.name.split(".")[0] or "rows"
    yield path.with_name(f"{stem}.mended.jsonl")
    yield from (path.with_name(f"{stem}.mended-{number}.jsonl") for number in count(2))

"""What a run's record says about its data, found before anything is started."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from trainer.data.doctor.structure import check_structure
from trainer.data.doctor.tally import Tally
from trainer.data.formats import ACCEPTED
from trainer.data.readers.opening import look
from trainer.data.reading import held_out_source, mixed_in, read_samples, refusal
from trainer.data.sources import HUB, Source, content_digest, find
from trainer.errors import TrainError
from trainer.models.task import check_task
from trainer.spec import RunSpec
from trainer.spec.data import Data

LARGE = 50_000_000  # bytes from which rows are counted by the checking processes instead of being read into this one


def data_record(spec: RunSpec, python: Path | None) -> dict[str, Any]:
    """Counts and fingerprint of the rows; raises `TrainError` when a run could not learn from them.

    A data set of the hub is not fetched here: the run does that, where it can be watched and stopped.
    """
    sources = [find(spec.data.train), *(find(name) for name, _ in mixed_in(spec.data.mix))]
    held_out = held_out_source(spec.data)
    everything = [*sources, held_out] if held_out else sources
    record: dict[str, Any] = {"rows": None, "held_out_rows": None, "rows_dropped": {}}
    if all(source.path for source in everything):
        large = sum(_size(source) for source in everything) > LARGE
        record = _counted(sources, held_out, spec.data, python) if large else _read(spec, python)
    return {**record, "data_fingerprint": fingerprint(sources)}


def _size(source: Source) -> int:
    """Bytes of the file; a folder of pictures has no file of rows."""
    return 0 if source.path is None or source.of_classes else look(source.path).path.stat().st_size


def _read(spec: RunSpec, python: Path | None) -> dict[str, Any]:
    found = read_samples(spec.data, python)
    check_task(spec, found)
    return {"rows": len(found.train), "held_out_rows": len(found.held_out), "rows_dropped": dict(found.dropped)}


def _counted(sources: list[Source], held_out: Source | None, data: Data, python: Path | None) -> dict[str, Any]:
    """The rows in the files, before they are mixed, split and freed of duplicates, which the run does."""
    train = Tally()
    for source in sources:
        train.add(_checked(source, data, python), 0)
    aside = _checked(held_out, data, python) if held_out else Tally()
    return {"rows": train.usable, "held_out_rows": aside.usable, "rows_dropped": dict(train.dropped + aside.dropped)}


def _checked(source: Source, data: Data, python: Path | None) -> Tally:
    assert source.path, "only files are counted"
    tally = check_structure(source, look(source.path), data, python, lambda _: None).tally
    error = next((finding for finding in tally.findings if finding.drops), None)
    if error and data.bad_rows == "refuse":
        raise refusal(error)
    if not tally.usable:
        raise TrainError("data-empty", f"{source.name} holds no row to learn from.", f"Add rows with {ACCEPTED}.")
    return tally


def fingerprint(sources: list[Source]) -> str:
    """SHA-256 of the bytes; of several, and of hub data sets by their names, one over all."""
    digests = [
        content_digest(each.path) if each.path else f"{HUB}{each.name}:{each.config}@{each.split}" for each in sources
    ]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

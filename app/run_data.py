"""What a run's record says about its data, found before anything is started."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from trainer.data.reading import held_out_source, mixed_in, read_samples
from trainer.data.sources import HUB, Source, file_digest, find
from trainer.spec import RunSpec


def data_record(spec: RunSpec, python: Path | None) -> dict[str, Any]:
    """Counts and fingerprint of the rows; raises `TrainError` when a run could not learn from them.

    A data set of the hub is not fetched here: the run does that, where it can be watched and stopped.
    """
    sources = [find(spec.data.train), *(find(name) for name, _ in mixed_in(spec.data.mix))]
    held_out = held_out_source(spec.data)
    everything = [*sources, held_out] if held_out else sources
    record: dict[str, Any] = {"rows": None, "held_out_rows": None, "rows_dropped": {}}
    if all(source.path for source in everything):
        found = read_samples(spec.data, python)
        record = {"rows": len(found.train), "held_out_rows": len(found.held_out), "rows_dropped": dict(found.dropped)}
    return {**record, "data_fingerprint": fingerprint(sources)}


def fingerprint(sources: list[Source]) -> str:
    """SHA-256 of the file's bytes; of several, and of hub data sets by their names, one over all."""
    digests = [
        file_digest(each.path) if each.path else f"{HUB}{each.name}:{each.config}@{each.split}" for each in sources
    ]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

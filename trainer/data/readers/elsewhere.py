"""Rows of a parquet file or of a hub data set as JSON lines: a script for an interpreter with pyarrow and datasets.

    python -I elsewhere.py parquet FILE
    python -I elsewhere.py hub NAME CONFIG SPLIT     (CONFIG may be empty)

What cannot be read ends it with one line on standard error and status 3. `datasets` keeps its cache where `HF_HOME`
says and stays offline where `HF_HUB_OFFLINE` says so. Imports nothing of its siblings.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Iterable
from typing import Any

BYTES = 6 << 30  # of address space; pyarrow reserves far more than it touches
ROWS_AT_ONCE = 512
BYTES_AT_ONCE = 16 << 20  # about, of rows that hold pictures
REFUSED = 3


def main(arguments: list[str]) -> int:
    """Write the rows of one source; returns the exit status."""
    match arguments:
        case ["parquet", path]:
            return parquet(path)
        case ["hub", name, config, split]:
            return hub(name, config, split)
    return 2


def parquet(path: str) -> int:
    """The rows of one file, a few hundred at a time; nested columns become lists and objects."""
    _limit_memory()
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_rows_at_once(file.metadata)):
                _write(batch.to_pylist())
    except (pyarrow.ArrowException, OSError, MemoryError) as error:
        return _refused(error)
    return 0


def _rows_at_once(about: Any) -> int:
    """So many rows that a batch of them stays small."""
    groups = [about.row_group(index) for index in range(about.num_row_groups)]
    largest = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=0)
    return max(1, min(ROWS_AT_ONCE, int(BYTES_AT_ONCE / max(1, largest))))


def hub(name: str, config: str, split: str) -> int:
    """The rows of one split; pictures and sound stay undecoded."""
    import datasets

    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(name, config or None, split=split)
        for column, feature in loaded.features.items():
            if isinstance(feature, datasets.Image | datasets.Audio):
                loaded = loaded.cast_column(column, type(feature)(decode=False))
        _write(loaded)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        return _refused(error)
    return 0


def _limit_memory() -> None:
    """Let this process fail alone instead of taking the machine's memory, where the system has such a limit."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    except (ImportError, ValueError, OSError):  # Windows has none, macOS may refuse it
        return


def _refused(error: BaseException) -> int:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    print(lines[0][:300], file=sys.stderr)
    return REFUSED


def _write(rows: Iterable[Any]) -> None:
    """One JSON object a line; bytes as a data URL, dates and the like as text, numbers that are none as null."""
    for row in rows:
        try:
            line = json.dumps(row, ensure_ascii=False, default=_text, allow_nan=False)
        except ValueError:
            line = json.dumps(_finite(row), ensure_ascii=False, default=_text)
        sys.stdout.buffer.write(line.encode("utf-8", "replace") + b"\n")


def _text(value: Any) -> str:
    return f"data:;base64,{base64.b64encode(value).decode()}" if isinstance(value, bytes) else str(value)


def _finite(value: Any) -> Any:
    """The value with NaN and Infinity as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return {key: _finite(each) for key, each in value.items()} if isinstance(value, dict) else value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

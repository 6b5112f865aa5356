"""What the doctor's processes share: a task a line on standard input, an answer for each, within a limit of memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trainer.data.formats import Forms, to_sample
from trainer.data.problems import RowError
from trainer.data.samples import Sample
from trainer.data.sources import Source
from trainer.errors import TrainError

MEMORY = 512 << 20  # bytes of address space
Say = Callable[[dict[str, Any], bytes], None]


def source_of(task: dict[str, Any]) -> tuple[Source, Path | None]:
    """The source that a task names, and the interpreter for what needs one."""
    path = Path(task["path"]) if task["path"] else None
    return Source(task["name"], path, task["config"], task["split"]), Path(task["python"]) if task["python"] else None


def samples_of(task: dict[str, Any], row_read: Callable[[], None]) -> Iterator[Sample]:
    """The rows that can be learned of a task's source; `row_read` is called for every row."""
    forms = Forms(task["format"], task["columns"])
    source, python = source_of(task)
    for place, value, findings in source.rows(task["chunk_characters"], python):
        row_read()
        if any(finding.drops for finding in findings):
            continue
        try:
            yield to_sample(forms.of(value), value, place)[0]
        except (RowError, RecursionError):
            continue  # told by the structural pass


def serve(answer: Callable[[dict[str, Any], Say], tuple[dict[str, Any], bytes]]) -> None:
    """Answer tasks until standard input ends, within the memory that the process may have."""
    limit_memory(MEMORY)
    out = sys.stdout.buffer

    def say(about: dict[str, Any], data: bytes) -> None:
        out.write(json.dumps({**about, "bytes": len(data)}).encode() + b"\n" + data)
        out.flush()

    for line in sys.stdin:
        try:
            about, data = answer(json.loads(line), say)
        except TrainError as error:
            about = {"code": error.code, "message": error.message, "remedy": error.remedy}
            data = b""
        except MemoryError:
            about, data = {"memory": True}, b""
        say(about, data)


def limit_memory(most: int) -> None:
    """Let this process fail alone instead of taking the machine's memory, where the system has such a limit."""
    try:
        import resource

        # What this process starts may need more, as what reads parquet does, and sets a limit of its own.
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (ImportError, ValueError, OSError):  # Windows has none, macOS may refuse it
        return

"""Pictures opened and processed in threads while the steps before theirs are computed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from trainer.data.batches import Batch
from trainer.vision.sight import Ready, Seen

AHEAD = 2  # batches
MOST_WORKERS = 8


def ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same endless batches, whose pictures are ready when they come; what a picture raises is raised in its turn."""
    pool = ThreadPoolExecutor(max(1, min(MOST_WORKERS, (os.cpu_count() or 1) - 1)))
    coming: deque[tuple[Batch, list[Future[Ready] | None]]] = deque()
    try:
        for batch in batches:
            coming.append((batch, [pool.submit(_ready, seen) if seen else None for seen in batch.seen]))
            if len(coming) > AHEAD:
                first, shown = coming.popleft()
                yield replace(first, seen=tuple(each.result() if each else None for each in shown))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ready(seen: Seen) -> Ready:
    return Ready(seen.sight, seen.pictures, seen.place, seen.processed())

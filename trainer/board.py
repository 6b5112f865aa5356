"""The curves of a run for TensorBoard: `tensorboard --logdir RUN/tensorboard`."""

from __future__ import annotations

import math
import time
from pathlib import Path

FLUSH_SECONDS = 10
AT_MOST_EVERY = 0.1  # seconds; a record costs 0.3 ms, which steps of a few milliseconds would feel


class Board:
    """Writes figures by step; a run that goes on takes its curves up where its checkpoint was."""

    def __init__(self, folder: Path, from_step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from torch.utils.tensorboard import SummaryWriter

        self._summary = Summary
        self._writer = SummaryWriter(str(folder), purge_step=from_step + 1, flush_secs=FLUSH_SECONDS)
        self._last = -math.inf

    def write(self, step: int, figures: dict[str, float], *, always: bool = False) -> None:
        """All figures of a step as one record, unless the one before it was written just now."""
        if not always and time.monotonic() - self._last < AT_MOST_EVERY:
            return
        self._last = time.monotonic()
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self._writer.file_writer.add_summary(self._summary(value=values), step)

    def close(self) -> None:
        """Write out what is still held back."""
        self._writer.close()

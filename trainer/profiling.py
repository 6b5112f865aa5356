"""A trace of a few steps, and a table of the operations that cost the most."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from trainer.report import Report

ROWS = 25


@contextmanager
def profiled(folder: Path, steps: int, report: Report) -> Iterator[Callable[[], None]]:
    """Yields what to call after each step; the first two steps, in which much happens once, are passed over."""
    if not steps:
        yield lambda: None
        return
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    plan = schedule(wait=1, warmup=1, active=steps, repeat=1)
    with profile(
        activities=activities, schedule=plan, on_trace_ready=lambda found: _write(found, folder, report)
    ) as tracing:
        yield tracing.step


def _write(found: Any, folder: Path, report: Report) -> None:
    """`trace.json` for chrome://tracing or Perfetto, `operations.txt` for reading; the costliest go into the events."""
    folder.mkdir(exist_ok=True)
    found.export_chrome_trace(str(folder / "trace.json"))
    by = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    averages = found.key_averages()
    (folder / "operations.txt").write_text(averages.table(sort_by=by, row_limit=ROWS), encoding="utf-8")
    # The profiler's own marks of steps last as long as everything in them.
    operations = [each for each in averages if not each.key.startswith("ProfilerStep")]
    whole = sum(getattr(each, by) for each in operations) or 1
    operations.sort(key=lambda each: -getattr(each, by))
    report.profiled(folder, {each.key: round(getattr(each, by) / whole, 4) for each in operations[:5]})

"""Measures a running step: what has come over the network, how fast, and how long the rest will take."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from env_manager.fetching.download import Transfers
from env_manager.fetching.wheels import WheelSize
from env_manager.keeping.disk import downloaded
from env_manager.progress import Reporter, StepProgress, StepState

_WINDOW_SECONDS = 5.0
_SHORTEST_SECONDS = 0.5


class StepWatch:
    """Reports the progress of one step in bytes of wheels.

    Wheels that are fetched here are counted as they come. Those that uv fetches are seen in its
    cache: unpacked while they come, into a temporary folder, and as an entry once they are whole.
    `to_come` gives the bytes to fetch of each package, None where nobody told; `sizes` its wheel.
    """

    def __init__(
        self,
        progress: StepProgress,
        to_come: Mapping[str, int | None],
        sizes: Mapping[str, WheelSize],
        cache: Path,
        report: Reporter,
    ) -> None:
        self.progress = replace(progress, state="running")
        self.report = report
        self.started = time.monotonic()
        self._cache = cache
        self._transfers: Transfers | None = None
        self._by_uv = dict(to_come)
        self._sizes = sizes
        self._old = set(_archives(cache)) | set(_temporary(cache))
        self._before = downloaded(cache)
        self._whole: dict[str, int] = {}
        self._samples: deque[tuple[float, int]] = deque([(self.started, 0)])
        report.step(self.progress)

    def transfers(self, transfers: Transfers, names: Collection[str]) -> None:
        """From now on the wheels of these packages are counted where they are fetched."""
        self._transfers = transfers
        self._by_uv = {name: size for name, size in self._by_uv.items() if name not in names}

    def tick(self) -> None:
        """Report how far it is now."""
        received = self._transfers.received if self._transfers else 0
        done = max(self.progress.bytes_done, received + self._come_by_uv())
        total = self._total()
        self._publish(replace(self.progress, bytes_done=done if total is None else min(done, total), bytes_total=total))

    def end(self, state: StepState, *, probe: str | None = None, reason: str | None = None) -> StepProgress:
        """Report the end of the step."""
        self.tick()
        done, total = self.progress.bytes_done, self._total()
        if state == "done" and total is not None:
            # uv ended well, so all of it is there.
            done = total
        ended = replace(self.progress, state=state, bytes_done=done, probe=probe, reason=reason)
        self._publish(replace(ended, bytes_per_second=None, seconds_left=None), timed=False)
        return self.progress

    def _publish(self, progress: StepProgress, timed: bool = True) -> None:
        now = time.monotonic()
        if timed:
            progress = self._timed(progress, now)
        self.progress = replace(progress, seconds=round(now - self.started, 2))
        self.report.step(self.progress)

    def _timed(self, progress: StepProgress, now: float) -> StepProgress:
        self._samples.append((now, progress.bytes_done))
        while now - self._samples[0][0] > _WINDOW_SECONDS and len(self._samples) > 2:
            self._samples.popleft()
        began, before = self._samples[0]
        left = None if progress.bytes_total is None else progress.bytes_total - progress.bytes_done
        if left == 0 or now - began < _SHORTEST_SECONDS:
            return replace(progress, bytes_per_second=None, seconds_left=None)
        rate = (progress.bytes_done - before) / (now - began)
        remaining = round(left / rate, 1) if left and rate else None
        return replace(progress, bytes_per_second=round(rate), seconds_left=remaining)

    def _total(self) -> int | None:
        known = [size for size in self._by_uv.values() if size is not None]
        if len(known) < len(self._by_uv):
            return None
        # A transfer that must start over, because its file has changed, makes this grow.
        here = self._transfers.received + self._transfers.remaining if self._transfers else 0
        return sum(known) + here

    def _come_by_uv(self) -> int:
        expected = {name for name, size in self._by_uv.items() if size != 0}
        if not expected:
            return 0
        if self._total() is None:
            return self._unpacked()
        there = {wheel.name for wheel in downloaded(self._cache) - self._before} & expected
        whole = sum(self._by_uv[name] or 0 for name in there)
        rest = expected - there
        packed = sum(self._by_uv[name] or 0 for name in rest)
        unpacked = sum(self._sizes[name].unpacked or 0 for name in rest if name in self._sizes)
        if not unpacked:
            return whole
        # Of a wheel underway only what is unpacked of it can be seen.
        underway = sum(_tree_bytes(folder) for folder in _temporary(self._cache) if folder not in self._old)
        return whole + min(packed, underway * packed // unpacked)

    def _unpacked(self) -> int:
        for folder in _archives(self._cache):
            if folder not in self._old and folder not in self._whole:
                self._whole[folder] = _tree_bytes(folder)
        growing = (folder for folder in _temporary(self._cache) if folder not in self._old)
        return sum(self._whole.values()) + sum(_tree_bytes(folder) for folder in growing)


def _archives(cache: Path) -> list[str]:
    return _folders(cache / "archive-v0", "")


def _temporary(cache: Path) -> list[str]:
    return _folders(cache, ".tmp")


def _folders(parent: Path, prefix: str) -> list[str]:
    try:
        with os.scandir(parent) as entries:
            return [entry.path for entry in entries if entry.name.startswith(prefix) and entry.is_dir()]
    except FileNotFoundError:
        return []


def _tree_bytes(folder: str) -> int:
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += _tree_bytes(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        # uv moved it to its archive meanwhile, where the next look finds it whole.
        return total
    return total

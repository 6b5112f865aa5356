"""Measures a running step: what has grown in the package cache, what has arrived in the environment."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from env_manager import verify
from env_manager.progress import Reporter, StepProgress, StepState


class StepWatch:
    """Reports the progress of one step from what lies on disk.

    uv unpacks each wheel while it comes, into a temporary folder of its cache, and moves it to the
    archive when it is whole; from there it links it into the environment. `sizes` gives the
    unpacked size of each package of the step, None where it is unknown.
    """

    def __init__(
        self, progress: StepProgress, sizes: Mapping[str, int | None], cache: Path, env: Path, report: Reporter
    ) -> None:
        self.progress = replace(progress, state="running")
        self.sizes = sizes
        self.cache = cache
        self.env = env
        self.report = report
        self.started = time.monotonic()
        self._old = set(_archives(cache)) | set(_temporary(cache))
        self._whole: dict[str, int] = {}
        report.step(self.progress)

    def tick(self) -> None:
        """Report how far it is now."""
        done = max(self.progress.bytes_done, self._unpacked(), self._arrived())
        if self.progress.bytes_total is not None:
            done = min(done, self.progress.bytes_total)
        self._publish(replace(self.progress, bytes_done=done))

    def end(self, state: StepState, *, probe: str | None = None, reason: str | None = None) -> StepProgress:
        """Report the end of the step."""
        done = self.progress.bytes_done
        if state == "done":
            # uv ended well, so all of it is there; a size that nobody told is read from the disk.
            total = self.progress.bytes_total
            done = verify.package_bytes(self.env, self.sizes) if total is None else total
        self._publish(replace(self.progress, state=state, bytes_done=done, probe=probe, reason=reason))
        return self.progress

    def _publish(self, progress: StepProgress) -> None:
        self.progress = replace(progress, seconds=round(time.monotonic() - self.started, 2))
        self.report.step(self.progress)

    def _unpacked(self) -> int:
        for folder in _archives(self.cache):
            if folder not in self._old and folder not in self._whole:
                self._whole[folder] = _tree_bytes(folder)
        growing = (folder for folder in _temporary(self.cache) if folder not in self._old)
        return sum(self._whole.values()) + sum(_tree_bytes(folder) for folder in growing)

    def _arrived(self) -> int:
        there = verify.installed(self.env)
        return sum(size or 0 for name, size in self.sizes.items() if name in there)


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

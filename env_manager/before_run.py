"""The checks before a run, made once for a generation, driver and interpreter and then remembered."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from env_manager import durable
from env_manager.finding import Check
from env_manager.generations import Generation
from env_manager.hardware import detect_nvidia, run_command
from env_manager.machine_checks import cuda_build, disk_check, packages_check
from env_manager.preflight import check, check_files

PROOF_NAME = "preflight.json"


def check_before_run(
    generation: Generation,
    *,
    model_type: str | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    log: Callable[[str], None] = lambda line: None,
) -> list[Check]:
    """All checks of `preflight.check`; the slow ones are remembered while nothing they depend on changes.

    Files, packages and disk are looked at every time. Only good results are remembered.
    """
    more = [f"model_type:{model_type}"] if model_type else []
    known = _remembered(generation, more)
    if known is not None:
        quick = [*check_files(generation), packages_check(generation), disk_check(generation.folder)]
        if all(each.ok for each in quick):
            return [*quick, *known]
    checks = check(generation, cancelled=cancelled, log=log, more=more)
    remember(generation, checks)
    return checks


def _identity(generation: Generation) -> dict[str, Any]:
    """What the result of a check depends on beside the environment's own files."""
    try:
        base = Path(os.path.realpath(generation.python))
        status = base.stat()
        interpreter = [str(base), status.st_size, status.st_mtime_ns]
    except OSError:
        interpreter = []
    return {"generation": generation.id, "driver": _driver(generation), "interpreter": interpreter}


def _driver(generation: Generation) -> str | None:
    if cuda_build(generation.plan) is None:
        return None
    if sys.platform == "linux":
        try:
            # Tells the loaded driver at once, where nvidia-smi takes a second.
            return Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
    return detect_nvidia(run_command).driver


def _remembered(generation: Generation, more: Sequence[str]) -> list[Check] | None:
    try:
        stored = json.loads((generation.folder / PROOF_NAME).read_text(encoding="utf-8"))
        checks = [Check(**row) for row in stored["checks"]]
        same = stored["identity"] == _identity(generation)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # only a memory: what cannot be read is checked again
    names = {each.name for each in checks}
    return checks if same and {*more, *generation.probes} <= names else None


def remember(generation: Generation, checks: Sequence[Check]) -> None:
    """Keep good results for the next run; those that are looked at every time are left out."""
    if not all(each.ok for each in checks):
        return
    slow = [each.as_json() for each in checks if each.name not in ("interpreter", "files", "packages", "disk")]
    known = {each.name for each in checks}
    slow += [each.as_json() for each in _remembered(generation, []) or () if each.name not in known]
    try:
        durable.replace_json(generation.folder / PROOF_NAME, {"identity": _identity(generation), "checks": slow})
    except OSError:
        return  # a home that cannot be written only costs the time to check again

"""The checks before a run, made once for a generation, driver and interpreter and then remembered."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from env_manager import durable
from env_manager.generations import Generation
from env_manager.hardware import detect_nvidia, run_command
from env_manager.planning.interpreter import identity_of
from env_manager.proving.finding import Check
from env_manager.proving.machine_checks import cuda_build, disk_check, model_type_check, packages_check
from env_manager.proving.preflight import check, check_files, probe

PROOF_NAME = "preflight.json"


def proved_for_run(generation: Generation, *, model_type: str | None = None) -> list[Check] | None:
    """The checks of a run where the remembered ones hold and the quick ones pass, in about 0.1 s; else None.

    Files, packages and disk are looked at every time. No process is started.
    """
    known = _remembered(generation)
    if known is None:
        return None
    quick = [*check_files(generation), packages_check(generation), disk_check(generation.folder)]
    if model_type:
        told = next((each for each in known if each.name == f"model_type:{model_type}"), None)
        quick.append(told or model_type_check(generation.env, model_type))
    others = [each for each in known if not each.name.startswith("model_type:")]
    return [*quick, *others] if all(each.ok for each in quick) else None


def check_before_run(
    generation: Generation,
    *,
    model_type: str | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    log: Callable[[str], None] = lambda line: None,
) -> list[Check]:
    """All checks of `preflight.check`, made anew unless they are proved; good results are remembered."""
    known = proved_for_run(generation, model_type=model_type)
    if known is not None:
        return known
    more = [f"model_type:{model_type}"] if model_type else []
    known = proved_for_run(generation)
    if known is None:
        checks = check(generation, cancelled=cancelled, log=log, more=more)
    else:  # only the model is new
        checks = [*known, *probe(generation.python, more, cancelled=cancelled, log=log)]
    remember(generation, checks)
    return checks


def _identity(generation: Generation) -> dict[str, Any]:
    """What the result of a check depends on beside the environment's own files."""
    return {
        "generation": generation.id,
        "driver": _driver(generation),
        "interpreter": identity_of(generation.python),
    }


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


def _remembered(generation: Generation) -> list[Check] | None:
    try:
        stored = durable.read_json(generation.folder / PROOF_NAME)
        checks = [Check(**row) for row in stored["checks"]]
        same = stored["identity"] == _identity(generation)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # only a memory: what cannot be read is checked again
    return checks if same and set(generation.probes) <= {each.name for each in checks} else None


def remember(generation: Generation, checks: Sequence[Check]) -> None:
    """Keep good results for the next run; those that are looked at every time are left out."""
    if not all(each.ok for each in checks):
        return
    slow = [each.as_json() for each in checks if each.name not in ("interpreter", "files", "packages", "disk")]
    known = {each.name for each in checks}
    slow += [each.as_json() for each in _remembered(generation) or () if each.name not in known]
    try:
        durable.replace_json(generation.folder / PROOF_NAME, {"identity": _identity(generation), "checks": slow})
    except OSError:
        return  # a home that cannot be written only costs the time to check again

"""Reads back what a generation was built from: its plan and its lock."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import Any

from env_manager.errors import EnvError
from env_manager.generation import Generation
from env_manager.planning.catalog import Hold
from env_manager.planning.plan import LeftOut, Plan, PlannedStep, TorchSource
from env_manager.planning.resolve import LOCK_NAME, Lock, parse_lock
from env_manager.planning.torch_index import Asked, TorchChoice


def recorded_lock(generation: Generation) -> Lock:
    """The lock that a generation was built from; refused where it is missing or altered."""
    try:
        data = (generation.folder / LOCK_NAME).read_bytes()
    except OSError as error:
        raise _no_lock(generation, "missing") from error
    if hashlib.sha256(data).hexdigest() != generation.lock_sha256:
        raise _no_lock(generation, "altered")
    return parse_lock(data.decode())


def _no_lock(generation: Generation, how: str) -> EnvError:
    return EnvError(
        "lock-damaged",
        f"The lock of environment {generation.id} is {how}, so it cannot be built again from it.",
        "Roll back to another environment, or install the dependencies again.",
    )


def recorded_plan(generation: Generation) -> Plan:
    """The plan as it was recorded; fields that this version does not know are passed over."""
    data = dict(generation.plan)
    nested: dict[str, Any] = {
        "torch": lambda row: _make(TorchChoice, row),
        "source": lambda row: _make(TorchSource, row) if row else None,
        "steps": lambda rows: tuple(_make(PlannedStep, row) for row in rows),
        "left_out": lambda rows: tuple(_make(LeftOut, row) for row in rows),
        "asked": lambda row: _make(Asked, row),
        "holds": lambda rows: tuple(_make(Hold, row) for row in rows),
    }
    try:
        made = {name: make(data[name]) for name, make in nested.items()}
        plan: Plan = _make(Plan, data | made)
        return plan
    except (KeyError, TypeError, AttributeError) as error:
        raise EnvError(
            "generation-damaged",
            f"The record of environment {generation.id} does not say what was planned.",
            "Use another environment, or install the dependencies again.",
        ) from error


def _make(kind: Any, row: dict[str, Any]) -> Any:
    known = {each.name for each in fields(kind)}
    return kind(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in row.items() if name in known}
    )

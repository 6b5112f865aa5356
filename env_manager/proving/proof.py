"""When a recorded proof counts for a new generation: same lock, same machine, same interpreter, same probes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from env_manager.generations import Generation, Store
from env_manager.planning.interpreter import identity_of
from env_manager.proving.preflight import PROBE, Check

# What a probe's result can depend on. Free memory and disk change by the minute and are left out.
_OF_MACHINE = ("os", "os_version", "arch", "cpu", "accelerator", "driver", "cuda")
_OF_GPU = ("name", "compute_capability")


@dataclass(frozen=True)
class Proof:
    """What a proof holds for; `source` and `checks` name the generation that has it and its findings, if any."""

    key: str = ""
    source: str | None = None
    checks: tuple[Check, ...] = ()


NO_PROOF = Proof()


def proof_key(
    lock_sha256: str,
    hardware: Mapping[str, Any],
    interpreter: str,
    probes: Sequence[str],
    devices: Sequence[str] = (),
) -> str:
    """One text for everything that a proof holds for; another one means that probing is due."""
    known = {
        "lock": lock_sha256,
        "machine": {name: hardware.get(name) for name in _OF_MACHINE},
        "gpus": [{name: gpu.get(name) for name in _OF_GPU} for gpu in hardware.get("gpus", ())],
        "devices": list(devices),
        "interpreter": identity_of(interpreter),
        "probes": list(probes),
        "probing": hashlib.sha256(PROBE.read_bytes()).hexdigest(),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def find_proof(
    store: Store,
    lock_sha256: str,
    hardware: Mapping[str, Any],
    interpreter: str,
    probes: Sequence[str],
    devices: Sequence[str] = (),
) -> Proof:
    """The key for this lock, machine and interpreter, with the findings of the newest generation proved for it."""
    key = proof_key(lock_sha256, hardware, interpreter, probes, devices)
    for generation in reversed(store.list()):
        passed = all(check.get("ok") is True for check in generation.checks)
        found = _findings(generation, probes)
        if generation.proof == key and passed and len(found) == len(probes):
            return Proof(key, generation.proved_by or generation.id, tuple(found))
    return Proof(key)


def _findings(generation: Generation, probes: Sequence[str]) -> list[Check]:
    by_name = {str(check.get("name")): str(check.get("evidence", "")) for check in generation.checks}
    note = f" (proved in {generation.proved_by or generation.id})"
    return [Check(name, True, by_name[name].removesuffix(note) + note) for name in probes if name in by_name]

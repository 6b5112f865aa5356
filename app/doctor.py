"""`fettle doctor`: what this machine is, what is installed, whether it works."""

from __future__ import annotations

import platform

from app import __version__
from app.environment import environment_view
from app.operations import Operations
from app.terminal import say_json, size
from env_manager.preflight import check


def run(operations: Operations, *, as_json: bool) -> int:
    """Print the report; returns 1 when the active environment does not work, else 0."""
    view = environment_view(operations)
    active = operations.store.status().active
    checks = check(active) if active else []
    sound = view.problem is None and all(each.ok for each in checks)
    if as_json:
        say_json(
            {
                "version": __version__,
                "python": platform.python_version(),
                "environment": view.model_dump(mode="json"),
                "checks": [each.as_json() for each in checks],
                "sound": sound,
            }
        )
        return 0 if sound else 1
    machine = view.hardware
    print(f"fettle {__version__}, Python {platform.python_version()}\nhome: {operations.home.root}")
    print(
        f"{machine.system} {machine.machine}; {machine.cpu}, {machine.cores} cores, {size(machine.memory_bytes)} memory, {size(machine.disk_free_bytes)} free"
    )
    print(
        f"accelerator: {machine.accelerator}"
        + "".join(f"; {gpu.name} ({gpu.compute_capability})" for gpu in machine.gpus)
    )
    print(f"environment: {view.active or 'none; next: fettle env install'}")
    if view.problem:
        print(f"!! {view.problem.message}\n   {view.problem.remedy}  [{view.problem.code}]")
    for each in checks:
        print(f"{'ok' if each.ok else '!!'} {each.name}: {each.evidence}" + ("" if each.ok else f"\n   {each.remedy}"))
    return 0 if sound else 1

"""The Environment page's record: this machine, the plan for it, and the generations."""

from __future__ import annotations

import shutil
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.api.schema import EnvironmentView, Gpu, HardwareView, PlannedStep, PlanView, Problem, TorchView
from app.api.schema_generations import CheckView, FailedStep, GenerationView, HistoryView
from app.errors import problem_of
from app.operations import Operations
from app.paths import default_root
from env_manager.errors import EnvError
from env_manager.generations import Generation, Store
from env_manager.hardware import Hardware, detect
from env_manager.keeping.removal import keep_policy
from env_manager.planning.catalog import Catalog
from env_manager.planning.catalog_file import load_catalog
from env_manager.planning.plan import Plan, make_plan
from env_manager.planning.torch_index import Asked, choose_torch

NEWEST_EVENTS = 100


@lru_cache(maxsize=1)
def _machine(root: Path) -> tuple[Hardware, Plan]:
    """What this machine is and what it would get; looked at once, because a driver tool can take seconds."""
    hardware = detect(root)
    return hardware, make_plan(hardware, load_catalog())


def hardware(root: Path) -> Hardware:
    """What this machine is, looked at once."""
    return _machine(root)[0]


def environment_view(operations: Operations) -> EnvironmentView:
    """Everything about environments but a running installation."""
    here, plan = _machine(operations.home.root)
    status = operations.store.status()
    active = status.active.id if status.active else None
    trouble = problem_of(status.problems[0]) if status.problems else None
    if trouble is None and active:
        trouble = _broken_in_use(operations, active, can_go_back=status.previous is not None)
    return EnvironmentView(
        hardware=_hardware(here, disk_free_bytes=shutil.disk_usage(operations.home.root).free),
        torch=_torch(plan),
        plan=_steps(plan),
        accelerators=_accelerators(here, load_catalog()),
        active=active,
        previous=status.previous.id if status.previous else None,
        passed_over=[each.id for each in status.passed_over],
        generations=[_generation(each, active=each.id == active) for each in status.generations],
        history=_history(operations.store),
        keep=keep_policy(operations.store),
        problem=trouble,
    )


def plan_as_asked(asked: Asked) -> PlanView:
    """What an installation would take if the user decided so; raises `EnvError` where that cannot be."""
    plan = make_plan(hardware(default_root()), load_catalog(), asked=asked)
    return PlanView(torch=_torch(plan), plan=_steps(plan))


def _torch(plan: Plan) -> TorchView:
    return TorchView(build=plan.torch.build, reason=plan.torch.reason, advice=list(plan.torch.advice))


def _accelerators(hardware: Hardware, catalog: Catalog) -> list[str]:
    """The builds of torch that can be asked for on this system, the newest CUDA first."""
    found = []
    for name in ("cpu", "mps", *(index.name for index in catalog.torch_indexes if index.accelerator == "cuda")):
        try:
            choose_torch(hardware, catalog, asked=Asked(name))
        except EnvError:
            continue  # no such build for this system
        found.append(name)
    return found


def _history(store: Store) -> list[HistoryView]:
    """What happened to the environments, the newest first."""
    rows = [row for row in store.history_rows() if isinstance(row.get("removed") or row.get("id"), str)]
    return [
        HistoryView(
            time=_seconds(row.get("time")),
            action=str(row.get("action", "")),
            generation=row.get("removed") or row["id"],
            before=row["before"] if isinstance(row.get("before"), str) else None,
        )
        for row in reversed(rows[-NEWEST_EVENTS:])
    ]


def _seconds(time: object) -> float | None:
    try:
        return datetime.fromisoformat(str(time).replace("Z", "+00:00")).timestamp()  # Python 3.10 knows no Z
    except (ValueError, OverflowError):
        return None


def _broken_in_use(operations: Operations, active: str, *, can_go_back: bool) -> Problem | None:
    """The problem, when the newest run in the active environment failed because of the environment."""
    for each in operations.refresh():
        if each.record.get("generation") == active:
            view = each.view()
            if view.problem and view.problem.code in ("environment-broken", "environment-unfit"):
                if can_go_back or view.problem.action != "rollback":
                    return view.problem
                remedy = "Repair it: it is built again from its own lock."
                return view.problem.model_copy(update={"action": "repair", "remedy": remedy})
            return None
    return None


def _hardware(hardware: Hardware, *, disk_free_bytes: int) -> HardwareView:
    return HardwareView(
        system=f"{hardware.os} {hardware.os_version}".strip(),
        machine=hardware.arch,
        cpu=hardware.cpu,
        cores=hardware.cores,
        memory_bytes=hardware.memory_bytes or 0,
        disk_free_bytes=disk_free_bytes,  # of the home's disk and now, where the rest was looked at once
        accelerator=hardware.accelerator,
        driver=hardware.driver,
        gpus=[
            Gpu(name=gpu.name, compute_capability=gpu.compute_capability, memory_bytes=gpu.memory_bytes or 0)
            for gpu in hardware.gpus
        ],
        notes=list(hardware.notes),
    )


def _steps(plan: Plan) -> list[PlannedStep]:
    """The catalog's steps in order; a step is left out when every package of it is."""
    reasons: dict[str, list[str]] = {}
    for left in plan.left_out:
        reasons.setdefault(left.step, []).append(f"{left.package}: {left.reason}")
    kept = {step.id: step for step in plan.steps}
    rows = []
    for step in load_catalog().steps:
        planned = kept.get(step.id)
        rows.append(
            PlannedStep(
                id=step.id,
                title=step.title,
                why=step.why,
                packages=list(planned.requirements) if planned else [],
                left_out="\n".join(reasons[step.id]) if step.id in reasons else None,
                optional=step.optional,
            )
        )
    return rows


def _generation(generation: Generation, *, active: bool) -> GenerationView:
    torch = generation.plan.get("torch") or {}
    return GenerationView(
        id=generation.id,
        created=generation.created_at,
        name=generation.name or "",
        note=generation.note,
        pinned=generation.pinned,
        active=active,
        damage=generation.damage,
        bytes=generation.bytes,
        packages=generation.packages,
        overrides=generation.overrides,
        seconds=generation.seconds,
        python=" · ".join(str(generation.interpreter.get(name, "")) for name in ("version", "reason")).strip(" ·"),
        torch=" · ".join(str(torch.get(name, "")) for name in ("build", "reason")).strip(" ·"),
        checks=[_proof(row) for row in generation.checks],
        proved_by=generation.proved_by,
        failed_steps=[
            FailedStep(title=str(row.get("title", "")), reason=str(row.get("reason") or "It failed."))
            for row in generation.steps
            if row.get("state") == "failed"
        ],
    )


def _proof(row: dict[str, Any]) -> CheckView:
    return CheckView(
        name=str(row.get("name", "")),
        ok=bool(row.get("ok")),
        evidence=str(row.get("evidence", "")),
        remedy=None if row.get("ok") else row.get("remedy"),
    )

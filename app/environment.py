"""The Environment page's record: this machine, the plan for it, and the generations."""

from __future__ import annotations

from functools import lru_cache

from app.api.schema import EnvironmentView, GenerationView, Gpu, HardwareView, PlannedStep, Problem, TorchView
from app.errors import problem_of
from app.operations import Operations
from env_manager.catalog import load_catalog
from env_manager.generations import Generation
from env_manager.hardware import Hardware, detect
from env_manager.plan import Plan, make_plan
from env_manager.removal import keep_policy


@lru_cache(maxsize=1)
def _machine() -> tuple[Hardware, Plan]:
    """What this machine is and what it would get; looked at once, because a driver tool can take seconds."""
    hardware = detect()
    return hardware, make_plan(hardware, load_catalog())


def environment_view(operations: Operations) -> EnvironmentView:
    """Everything about environments but a running installation."""
    hardware, plan = _machine()
    status = operations.store.status()
    active = status.active.id if status.active else None
    trouble = problem_of(status.problems[0]) if status.problems else None
    if trouble is None and active:
        trouble = _broken_in_use(operations, active, can_go_back=status.previous is not None)
    return EnvironmentView(
        hardware=_hardware(hardware),
        torch=TorchView(build=plan.torch.build, reason=plan.torch.reason, advice=list(plan.torch.advice)),
        plan=_steps(plan),
        active=active,
        previous=status.previous.id if status.previous else None,
        generations=[_generation(each, active=each.id == active) for each in status.generations],
        keep=keep_policy(operations.store),
        problem=trouble,
    )


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


def _hardware(hardware: Hardware) -> HardwareView:
    return HardwareView(
        system=f"{hardware.os} {hardware.os_version}".strip(),
        machine=hardware.arch,
        cpu=hardware.cpu,
        cores=hardware.cores,
        memory_bytes=hardware.memory_bytes or 0,
        disk_free_bytes=hardware.disk_free_bytes or 0,
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
    return GenerationView(
        id=generation.id,
        created=generation.created_at,
        name=generation.name or "",
        note=generation.note,
        pinned=generation.pinned,
        active=active,
        bytes=generation.bytes,
        packages=generation.packages,
        seconds=generation.seconds,
    )

"""Runs, and what all operations share: their record, log and stop."""

from typing import Any

from fastapi import APIRouter, BackgroundTasks

from app.after_run import start_evaluation, start_merge
from app.api.deps import OperationsDep
from app.api.schema import Curve, LogPage, OperationView, RunRequest
from app.api.schema_after import JudgeRequest, MergeRequest
from app.api.schema_estimate import EstimateView
from app.api.schema_evaluation import WorstRows
from app.errors import AppError
from app.estimating import estimate_run
from app.operations import read_log
from app.standby import prepare_for
from trainer.spec import RunSpec
from trainer.spec.presets import PRESETS

router = APIRouter()


@router.get("/spec")
def spec() -> dict[str, Any]:
    """The defaults of a run, the schema that its form is made from, and named sets of changes."""
    return {
        "defaults": RunSpec().model_dump(mode="json"),
        "schema": RunSpec.model_json_schema(),
        "presets": {name: {"about": about, "changes": changes} for name, (about, changes) in PRESETS.items()},
    }


@router.post("/runs")
def start_run(request: RunRequest, operations: OperationsDep) -> OperationView:
    """Check a run and start it in a process of its own."""
    return operations.start_run(request.spec).view()


@router.post("/runs/estimate")
def estimate(request: RunRequest, operations: OperationsDep, afterwards: BackgroundTasks) -> EstimateView:
    """What a run would need, and whether that fits; somebody who asks is about to start one, so a trainer is prepared."""
    estimated = estimate_run(operations, request.spec)
    afterwards.add_task(prepare_for, operations, request.spec)
    return estimated


@router.get("/runs/{identity}/curve")
def curve(identity: str, operations: OperationsDep) -> Curve:
    """The whole loss curve of a run so far."""
    return Curve(loss=list(dict(operations.get(identity).losses).items()))


@router.get("/runs/{identity}/worst")
def worst(identity: str, operations: OperationsDep) -> WorstRows:
    """The held-out rows that the tuned model of a run, or of a later evaluation, does worst on."""
    try:
        text = (operations.get(identity).folder / "evaluation.json").read_text(encoding="utf-8")
        return WorstRows.model_validate_json(text)
    except (OSError, ValueError) as error:
        raise AppError(
            "evaluation-missing",
            f"What {identity} was judged on cannot be read.",
            f"Judge it again: `fettle runs evaluate {identity}`.",
        ) from error


@router.post("/runs/{identity}/merge")
def merge(identity: str, request: MergeRequest, operations: OperationsDep) -> OperationView:
    """Merge a run's adapter into its base, in a process of its own."""
    return start_merge(operations, identity, request).view()


@router.post("/runs/{identity}/evaluate")
def evaluate(identity: str, request: JudgeRequest, operations: OperationsDep) -> OperationView:
    """Judge a run's adapter once more, in a process of its own."""
    return start_evaluation(operations, identity, request).view()


@router.get("/operations/{identity}")
def operation(identity: str, operations: OperationsDep) -> OperationView:
    """One installation or run."""
    return operations.get(identity).view()


@router.get("/operations/{identity}/log")
def log(identity: str, operations: OperationsDep, offset: int = 0, until: int | None = None) -> LogPage:
    """A piece of the raw log from a byte offset up to another; at 0, the newest part of a long one."""
    text, next_offset = read_log(operations.get(identity).folder, max(0, offset), until=until)
    return LogPage(text=text, next_offset=next_offset)


@router.post("/runs/{identity}/pause")
def pause(identity: str, operations: OperationsDep) -> OperationView:
    """Ask a run to write a checkpoint at its next step and end."""
    return operations.pause(identity).view()


@router.post("/runs/{identity}/resume")
def resume(identity: str, operations: OperationsDep) -> OperationView:
    """Let a run go on that was paused, stopped or killed."""
    return operations.resume_run(identity).view()


@router.post("/operations/{identity}/stop")
def stop(identity: str, operations: OperationsDep) -> OperationView:
    """Ask an operation to end at its next step; a run keeps its adapter."""
    return operations.stop(identity).view()

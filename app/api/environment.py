"""The Environment page: install, check, repair, roll back, and look after the generations."""

from fastapi import APIRouter

from app.api.deps import HubDep, OperationsDep
from app.api.schema import (
    CheckedView,
    CheckRequest,
    DifferenceView,
    EnvironmentView,
    InstallRequest,
    KeepRequest,
    LabelRequest,
    OperationView,
    RemovalRequest,
    RemovalView,
    RepairRequest,
    RollbackRequest,
)
from app.checking import check_environment
from env_manager import removal
from env_manager.diff import diff

router = APIRouter(prefix="/environment")


@router.post("/install")
def install(request: InstallRequest, operations: OperationsDep) -> OperationView:
    """Start an installation in a process of its own."""
    return operations.start_install(request.overrides, allow_large=request.allow_large).view()


@router.post("/check")
def check(request: CheckRequest, operations: OperationsDep) -> CheckedView:
    """Prove an environment again and name what is wrong with it; takes seconds, changes nothing."""
    return check_environment(operations, request.generation, full=request.full)


@router.post("/repair")
def repair(request: RepairRequest, operations: OperationsDep) -> OperationView:
    """Start building a damaged environment again from its own lock, in a process of its own."""
    return operations.start_repair(request.generation, whole=request.whole).view()


@router.post("/rollback")
def roll_back(request: RollbackRequest, operations: OperationsDep, hub: HubDep) -> EnvironmentView:
    """Make an earlier generation the active one; offline, at once."""
    operations.store.rollback(request.generation)
    return hub.environment()


@router.get("/difference")
def difference(before: str, after: str, operations: OperationsDep) -> DifferenceView:
    """What two generations differ in."""
    store = operations.store
    return DifferenceView.model_validate(diff(store.get(before), store.get(after)).as_json())


@router.post("/label")
def label(request: LabelRequest, operations: OperationsDep, hub: HubDep) -> EnvironmentView:
    """Name, annotate, pin or unpin a generation."""
    operations.store.label(request.generation, name=request.name, note=request.note, pinned=request.pinned)
    return hub.environment()


@router.post("/removal/preview")
def preview_removal(request: RemovalRequest, operations: OperationsDep) -> RemovalView:
    """What deleting these generations would free; refused where they cannot be deleted."""
    store, in_use = operations.store, operations.generations_in_use()
    for each in request.generations:
        removal.require_removable(store, store.get(each), in_use)
    return RemovalView.model_validate(removal.preview(store, request.generations).as_json())


@router.post("/removal")
def remove(request: RemovalRequest, operations: OperationsDep) -> RemovalView:
    """Delete generations; never the active one, a pinned one or one that a run uses."""
    done = removal.remove(
        operations.store, request.generations, in_use=operations.generations_in_use(), with_cache=request.with_cache
    )
    return RemovalView.model_validate(done.as_json())


@router.post("/keep")
def keep(request: KeepRequest, operations: OperationsDep, hub: HubDep) -> EnvironmentView:
    """Set how many of the newest generations stay after an installation."""
    removal.set_keep_policy(operations.store, request.keep)
    return hub.environment()

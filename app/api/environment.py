"""The Environment page: install, update, check, repair, roll back, and where the gigabytes are."""

from fastapi import APIRouter, Request

from app.api.deps import HubDep, OperationsDep
from app.api.leaving import until_left
from app.api.schema import (
    CheckedView,
    CheckRequest,
    EnvironmentView,
    InstallRequest,
    OperationView,
    PlanView,
    RepairRequest,
    RollbackRequest,
)
from app.api.schema_generations import DiskView, UpdateRequest, UpdateView
from app.checking import check_environment
from app.disk import clear_cache as clear_spare_cache
from app.disk import disk_view
from app.environment import plan_as_asked
from app.updating import start_update, update_view
from env_manager.planning.torch_index import Asked

router = APIRouter(prefix="/environment")


@router.get("/plan")
def plan(accelerator: str | None = None, gpu: int | None = None) -> PlanView:
    """What an installation would take with this choice, and why; nothing is changed."""
    return plan_as_asked(Asked.of(accelerator, gpu))


@router.post("/install")
def install(request: InstallRequest, operations: OperationsDep) -> OperationView:
    """Start an installation in a process of its own."""
    started = operations.start_install(
        request.overrides, allow_large=request.allow_large, accelerator=request.accelerator, gpu=request.gpu
    )
    return started.view()


@router.post("/update/preview")
async def preview_update(page: Request, operations: OperationsDep) -> UpdateView:
    """Which newer versions fit together, and what keeps others back; takes seconds, changes nothing."""
    return await until_left(page, lambda left: update_view(operations, cancelled=left))


@router.post("/update")
def update(request: UpdateRequest, operations: OperationsDep) -> OperationView:
    """Start building an environment with the versions that a preview found."""
    return start_update(operations, request.pinned, request.versions).view()


@router.post("/check")
async def check(request: CheckRequest, page: Request, operations: OperationsDep) -> CheckedView:
    """Prove an environment again and name what is wrong with it; takes seconds, ends early if the page leaves."""
    return await until_left(
        page, lambda left: check_environment(operations, request.generation, full=request.full, cancelled=left)
    )


@router.post("/repair")
def repair(request: RepairRequest, operations: OperationsDep) -> OperationView:
    """Start building a damaged environment again from its own lock, in a process of its own."""
    return operations.start_repair(request.generation, whole=request.whole).view()


@router.post("/rollback")
def roll_back(request: RollbackRequest, operations: OperationsDep, hub: HubDep) -> EnvironmentView:
    """Make an earlier generation the active one; offline, at once."""
    operations.store.rollback(request.generation)
    return hub.environment()


@router.get("/disk")
def disk(operations: OperationsDep) -> DiskView:
    """What each part of the home folder takes on the disk, and what can be freed."""
    return disk_view(operations)


@router.post("/cache/clear")
def clear_cache(operations: OperationsDep) -> DiskView:
    """Delete from the cache what no environment uses, and the rows kept as tokens."""
    clear_spare_cache(operations)
    return disk_view(operations)

"""The Environment page: install and roll back."""

from fastapi import APIRouter

from app.api.deps import HubDep, OperationsDep
from app.api.schema import EnvironmentView, InstallRequest, OperationView, RollbackRequest

router = APIRouter(prefix="/environment")


@router.post("/install")
def install(request: InstallRequest, operations: OperationsDep) -> OperationView:
    """Start an installation in a process of its own."""
    return operations.start_install(request.overrides, allow_large=request.allow_large).view()


@router.post("/rollback")
def roll_back(request: RollbackRequest, operations: OperationsDep, hub: HubDep) -> EnvironmentView:
    """Make an earlier generation the active one; offline, at once."""
    operations.store.rollback(request.generation)
    return hub.environment()

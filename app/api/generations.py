"""The Environment page looks after its generations: compare, name, pin, delete, keep, export."""

from fastapi import APIRouter

from app.api.deps import HubDep, OperationsDep
from app.api.schema import EnvironmentView
from app.api.schema_generations import (
    DifferenceView,
    ExportFormat,
    ExportView,
    KeepRequest,
    LabelRequest,
    RemovalRequest,
    RemovalView,
)
from env_manager.keeping import removal
from env_manager.keeping.diff import diff
from env_manager.sharing import exchange

router = APIRouter(prefix="/environment")


@router.get("/difference")
def difference(before: str, after: str, operations: OperationsDep) -> DifferenceView:
    """What two generations differ in."""
    store = operations.store
    return DifferenceView.model_validate(diff(store.get(before), store.get(after)).as_json())


@router.get("/export")
def export(generation: str, operations: OperationsDep, format: ExportFormat = "json") -> ExportView:
    """A generation as a file from which it can be built elsewhere."""
    chosen = operations.store.get(generation)
    return ExportView(file_name=exchange.FILE_NAMES[format], text=exchange.export(chosen, format))


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


@router.post("/keep/preview")
def preview_keep(request: KeepRequest, operations: OperationsDep) -> RemovalView:
    """What keeping this many would delete now, and what that would free."""
    store, in_use = operations.store, operations.generations_in_use()
    gone = () if request.keep is None else removal.superfluous(store, request.keep, in_use)
    return RemovalView.model_validate(removal.preview(store, gone).as_json())


@router.post("/keep")
def keep(request: KeepRequest, operations: OperationsDep, hub: HubDep) -> EnvironmentView:
    """Set how many of the newest generations stay after an installation, and delete at once what does not."""
    removal.keep_newest(operations.store, request.keep, in_use=operations.generations_in_use())
    return hub.environment()

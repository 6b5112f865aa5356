"""What a route gets from the running application."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from app.hub import Hub
from app.operations import Operations
from app.worker import Worker


def _operations(request: Request) -> Operations:
    found: Operations = request.app.state.operations
    return found


def _hub(request: Request) -> Hub:
    found: Hub = request.app.state.hub
    return found


def _worker(request: Request) -> Worker:
    found: Worker = request.app.state.worker
    return found


OperationsDep = Annotated[Operations, Depends(_operations)]
HubDep = Annotated[Hub, Depends(_hub)]
WorkerDep = Annotated[Worker, Depends(_worker)]

"""The Data page: what a data set is, and everything that is wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from app.api.deps import OperationsDep, WorkerDep
from app.api.events import NDJSON
from app.api.schema_data import DataCheckRequest, DataLine, MendedView, PreviewLine, PreviewRequest
from app.data_check import check_lines
from app.data_mend import mended_copy
from app.data_preview import preview_line, preview_request

router = APIRouter(prefix="/data")


@router.post(
    "/check",
    responses={200: {"model": DataLine, "description": "One `DataLine` a line."}},
    response_class=StreamingResponse,
)
async def check(request: DataCheckRequest, operations: OperationsDep) -> StreamingResponse:
    """Stream the first rows, then what is found as it is found, then the report; leaving early ends the check."""
    found = check_lines(request, operations.interpreter())

    async def lines() -> AsyncIterator[str]:
        async with aclosing(found):
            async for line in found:
                yield line.model_dump_json(exclude_defaults=True) + "\n"

    return StreamingResponse(lines(), media_type=NDJSON)


@router.post("/mend")
def mend(request: DataCheckRequest, operations: OperationsDep) -> MendedView:
    """Write a copy beside the file, in which everything is mended that can be mended safely."""
    return mended_copy(request, operations.interpreter())


@router.post(
    "/preview",
    responses={200: {"model": PreviewLine, "description": "One `PreviewLine` a line."}},
    response_class=StreamingResponse,
)
async def preview(request: PreviewRequest, operations: OperationsDep, worker: WorkerDep) -> StreamingResponse:
    """Stream a page of rows token by token, then what all rows come to; leaving early ends it."""
    generation, asked = await asyncio.to_thread(preview_request, operations, request)

    async def lines() -> AsyncIterator[str]:
        async with aclosing(worker.ask(generation, asked)) as answers:
            async for line in answers:
                yield preview_line(line).model_dump_json(exclude_defaults=True) + "\n"

    return StreamingResponse(lines(), media_type=NDJSON)

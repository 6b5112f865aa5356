"""The Data page: what a data set is, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from app.api.deps import OperationsDep
from app.api.events import NDJSON
from app.api.schema_data import DataCheckRequest, DataLine
from app.data_check import check_lines

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

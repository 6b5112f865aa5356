"""The snapshot and the one event stream."""

from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from app.api.deps import HubDep
from app.api.schema import Snapshot, StreamLine

router = APIRouter()
NDJSON = "application/x-ndjson"


@router.get("/snapshot")
def snapshot(hub: HubDep) -> Snapshot:
    """Everything the page shows, as of now."""
    return hub.snapshot()


@router.get(
    "/events",
    responses={200: {"model": StreamLine, "description": "One `StreamEvent` a line."}},
    response_class=StreamingResponse,
)
async def events(hub: HubDep) -> StreamingResponse:
    """A snapshot, then whole records as they change, one JSON object a line."""

    async def lines() -> AsyncIterator[str]:
        async for event in hub.events():
            yield event.model_dump_json() + "\n"

    return StreamingResponse(lines(), media_type=NDJSON)

"""The Chat page: base and tuned answer the same prompt."""

from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from app.api.deps import OperationsDep, WorkerDep
from app.api.events import NDJSON
from app.api.schema import ChatLine, ChatRequest
from app.worker import chat_line, chat_request

router = APIRouter()


@router.post(
    "/chat",
    responses={200: {"model": ChatLine, "description": "One `ChatLine` a line."}},
    response_class=StreamingResponse,
)
async def chat(request: ChatRequest, operations: OperationsDep, worker: WorkerDep) -> StreamingResponse:
    """Stream both answers, one JSON object a line; leaving early stops them."""
    generation, asked = chat_request(operations, request)

    async def lines() -> AsyncIterator[str]:
        async for line in worker.ask(generation, asked):
            yield chat_line(line).model_dump_json() + "\n"

    return StreamingResponse(lines(), media_type=NDJSON)

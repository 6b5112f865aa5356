"""Work of a request ends with whoever waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from starlette.requests import Request

from app.api.leaving import until_left


def page(*messages: dict[str, object]) -> Request:
    """A request whose page sends these messages and then stays silent."""
    left = list(messages)

    async def receive() -> dict[str, object]:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return Request({"type": "http"}, receive)


def endless(left: Callable[[], bool]) -> str:
    while not left():
        time.sleep(0.01)
    return "ended early"


def test_the_result_comes_back_where_the_page_stays() -> None:
    assert asyncio.run(until_left(page(), lambda left: "done")) == "done"


def test_work_is_told_when_the_page_has_gone() -> None:
    assert asyncio.run(until_left(page({"type": "http.disconnect"}), endless)) == "ended early"


def test_work_is_told_when_the_server_is_closed() -> None:
    """The loop can only end once its threads have, so an untold one would hold the server open."""

    async def closed() -> None:
        task = asyncio.create_task(until_left(page(), endless))
        await asyncio.sleep(0.3)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(closed())


def test_a_failure_of_the_work_is_the_failure_of_the_request() -> None:
    def fails(left: Callable[[], bool]) -> str:
        raise ValueError("as it was raised")

    with pytest.raises(ValueError, match="as it was raised"):
        asyncio.run(until_left(page(), fails))

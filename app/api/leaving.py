"""Work for a page that may leave: a check of half a minute ends when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request

LOOK_SECONDS = 0.2
Result = TypeVar("Result")


async def until_left(request: Request, work: Callable[[Callable[[], bool]], Result]) -> Result:
    """Do the work on a thread and return its result; its argument turns true when the page takes its request back."""
    left = threading.Event()
    task = asyncio.create_task(asyncio.to_thread(work, left.is_set))
    try:
        while not (await asyncio.wait({task}, timeout=LOOK_SECONDS))[0]:
            if await request.is_disconnected():
                left.set()
        return await task
    finally:
        left.set()  # a server that is closed waits for its threads

"""Talk to a worker in a managed interpreter: JSON lines in, streamed JSON lines out."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from app.api.schema import ChatLine, ChatRequest
from app.errors import AppError, problem
from app.operations import Operations
from app.processes import managed_environment, snapshot_trainer, trainer_argv
from env_manager.generations import Generation

MOST_BYTES_A_LINE = 4 << 20
GONE = {
    "type": "failed",
    "code": "worker-died",
    "message": "The worker that answers has ended unexpectedly.",
    "remedy": "Ask again; its log is `worker.log` in Fettle's folder.",
}


def chat_request(operations: Operations, request: ChatRequest) -> tuple[Generation, dict[str, Any]]:
    """The environment and the request for a run's adapter; raises `AppError` when the run has none."""
    view = operations.get(request.run).view()
    if view.train is None or view.train.adapter is None:
        raise AppError(
            "adapter-missing",
            "This run has no adapter to chat with.",
            "Choose a run that finished, or was stopped and saved.",
        )
    generation = operations.active_generation()
    return generation, {
        "type": "chat",
        **view.train.spec.model_dump(include={"model", "base_precision", "quantise", "trust_code"}),
        "adapter": view.train.adapter,
        "messages": [message.model_dump() for message in request.messages],
        "max_new_tokens": request.max_new_tokens,
        "temperature": request.temperature,
    }


class Worker:
    """One worker process, started when first asked and again when the interpreter changes or it died.

    It ends when its standard input does, so it dies with the app.
    """

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._python: Path | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._answers: dict[str, asyncio.Queue[dict[str, Any] | None]] = {}
        self._starting = asyncio.Lock()

    async def ask(self, generation: Generation, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Send one request and stream its lines, the last of them `done` or `failed`; leaving early stops the answer."""
        identity = uuid.uuid4().hex
        process = await self._running(generation)
        answers = self._answers[identity] = asyncio.Queue()
        ended = False
        try:
            self._send(process, {"id": identity, **request})
            while not ended:
                line = await answers.get() or GONE
                ended = line["type"] in ("done", "failed")
                yield line
        finally:
            del self._answers[identity]
            if not ended:
                self._send(process, {"id": identity, "type": "stop"})

    async def close(self) -> None:
        """End the worker by closing its input; kill it if it does not leave."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None or process.stdin is None:
            return
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), timeout=3)
        except asyncio.TimeoutError:
            process.kill()
            await process.wait()

    async def _running(self, generation: Generation) -> asyncio.subprocess.Process:
        async with self._starting:
            if self._process and self._process.returncode is None and self._python == generation.python:
                return self._process
            await self.close()
            home = self._operations.home
            log = (home.root / "worker.log").open("ab")
            with log:
                self._process = await asyncio.create_subprocess_exec(
                    *trainer_argv(generation.python, snapshot_trainer(home.trainers), "worker"),
                    cwd=home.root,
                    env=managed_environment(generation),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    limit=MOST_BYTES_A_LINE,
                )
            self._python = generation.python
            self._reader = asyncio.create_task(self._read(self._process))
            return self._process

    @staticmethod
    def _send(process: asyncio.subprocess.Process, line: dict[str, Any]) -> None:
        # Not awaited: it must also work while our own caller is being cancelled. Requests are small.
        if process.stdin and not process.stdin.is_closing():
            process.stdin.write(json.dumps(line).encode() + b"\n")

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        async for raw in process.stdout:
            line = json.loads(raw)
            if line["id"] in self._answers:
                self._answers[line["id"]].put_nowait(line)
        await process.wait()
        for answers in self._answers.values():  # nobody waits for a dead worker
            answers.put_nowait(None)


def chat_line(line: dict[str, Any]) -> ChatLine:
    """A worker's line as the page reads it."""
    if line["type"] == "failed":
        return ChatLine(type="failed", problem=problem(line["code"], line["message"], line["remedy"]))
    return ChatLine(type=line["type"], side=line.get("side"), text=line.get("text", ""))

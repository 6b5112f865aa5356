"""The loopback server: one bound socket, one token a launch, and a guard in front of every route."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import __version__
from app.api import chat, data, environment, events, generations, runs
from app.api.schema import Problem
from app.errors import KNOWN, AppError, problem, problem_of
from app.hub import Hub
from app.operations import Operations
from app.worker import Worker

STATIC = Path(__file__).parent / "static"
TOKEN_HEADER = "x-fettle-token"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_STATUS = {
    **dict.fromkeys(("operation-unknown", "generation-unknown"), 404),
    **dict.fromkeys(("install-running", "output-not-empty"), 409),
    **dict.fromkeys(("generation-active", "generation-in-use", "generation-pinned"), 409),
}


@dataclass(frozen=True)
class Bound:
    """A socket that is ours before anybody knows its port, and the token of this launch."""

    socket: socket.socket
    token: str

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    @property
    def url(self) -> str:
        """The page's address; the token is in the fragment, which browsers never send."""
        return f"http://127.0.0.1:{self.port}/#token={self.token}"


def bind(port: int = 0) -> Bound:
    """Bind a loopback socket; port 0 takes any free one. Raises `AppError` when the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":  # elsewhere it would let a second program take a port that is in use
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise AppError(
            "port-in-use", f"Port {port} cannot be used: {error.strerror}.", "Name another port, or none."
        ) from error
    listener.listen(128)
    return Bound(listener, secrets.token_urlsafe(32))


class Guard:
    """In front of every route: refuses foreign hosts and origins and API requests without the token, and adds safe headers."""

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        self._app = app
        self._hosts = {f"127.0.0.1:{port}".encode(), f"localhost:{port}".encode()}
        self._origins = {b"http://" + host for host in self._hosts}
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = (
            self._refuse(scope)
            if scope["type"] == "http"
            else problem("forbidden", "Only HTTP is served here.", "Use the page that Fettle opens.")
        )
        answer = self._app
        if refusal is not None:
            answer = JSONResponse(refusal.model_dump(), status_code=401 if refusal.code == "token-missing" else 403)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await answer(scope, receive, send_with_headers)

    def _refuse(self, scope: Scope) -> Problem | None:
        values: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            values.setdefault(name.lower(), []).append(value)
        hosts, origins = values.get(b"host", []), values.get(b"origin", [])
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return problem("forbidden", "The request names a foreign host.", "Open the address that Fettle printed.")
        if any(origin not in self._origins for origin in origins):
            return problem("forbidden", "The request comes from another site.", "Open the address that Fettle printed.")
        if not scope["path"].startswith("/api"):
            return None
        tokens = values.get(TOKEN_HEADER.encode(), [])
        if len(tokens) != 1 or not secrets.compare_digest(tokens[0], self._token):
            return problem(
                "token-missing",
                "The request does not carry this launch's token.",
                "Open the address that Fettle printed, with its part after #.",
            )
        return None


def build_api(operations: Operations) -> FastAPI:
    """The application without its guard: routes, failures as problems, and the built page."""
    worker = Worker(operations)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        operations.standby.end()
        await worker.close()

    app = FastAPI(
        title="Fettle", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.state.operations, app.state.hub, app.state.worker = operations, Hub(operations), worker
    for module in (events, environment, generations, runs, data, chat):
        app.include_router(module.router, prefix="/api")
    for kind in KNOWN:
        app.add_exception_handler(kind, _as_problem)
    app.add_exception_handler(RequestValidationError, _as_invalid)
    if STATIC.is_dir():
        app.mount("/", StaticFiles(directory=STATIC, html=True))
    return app


def _as_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, KNOWN)
    return JSONResponse(problem_of(error).model_dump(), status_code=_STATUS.get(error.code, 400))


def _as_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return JSONResponse(
        problem("request-invalid", f"{where}: {first['msg']}.", "Correct the value.").model_dump(), status_code=422
    )


def server_for(operations: Operations, bound: Bound) -> uvicorn.Server:
    """A server for the bound socket; run it with `server.run(sockets=[bound.socket])`."""
    guarded = Guard(build_api(operations), bound.port, bound.token)
    config = uvicorn.Config(
        guarded, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2
    )
    return uvicorn.Server(config)

"""The real server on its loopback socket, for tests that talk to it as the page does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from app.operations import Operations
from app.paths import open_home
from app.server import TOKEN_HEADER, Bound, bind, server_for


@dataclass
class Served:
    """A running server and a client that knows its address."""

    bound: Bound
    client: httpx.Client

    @property
    def token(self) -> dict[str, str]:
        return {TOKEN_HEADER: self.bound.token}

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """A request with the token."""
        return self.client.post(path, headers=self.token, json=body)

    def snapshot(self) -> Any:
        """Everything that the page shows."""
        return self.client.get("/api/snapshot", headers=self.token).json()


@contextmanager
def serving() -> Iterator[Served]:
    """Serve the home folder that `FETTLE_HOME` names until the block is left."""
    bound = bind()
    operations = Operations(open_home())
    server = server_for(operations, bound)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound.socket]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{bound.port}", timeout=300, trust_env=False) as client:
            yield Served(bound, client)
    finally:
        server.should_exit = True
        thread.join()
        bound.socket.close()
        for child in operations._children:  # its last event comes shortly before its end
            child.wait()

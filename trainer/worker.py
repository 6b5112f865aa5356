"""Answer requests from the app: one JSON object a line in, streamed JSON lines out, until the app is gone.

A request names itself with `id` and what it wants with `type`; every line that answers it carries the same id, and
the last one is `done` or `failed`. `{"type": "stop"}` with the same id ends an answer early. What a request holds
and what its lines are is told by the class that answers it.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any, Protocol

from trainer.errors import TrainError

Line = dict[str, Any]

# Imported when first asked for: most of them bring torch.
ANSWERERS = {"chat": ("trainer.chat", "Chat"), "preview": ("trainer.data.preview", "Preview")}


class Answerer(Protocol):
    """Lives as long as the worker, so that it can keep what was costly to load."""

    def answer(self, request: Line, stopping: Callable[[], bool]) -> Iterator[Line]:
        """The lines of one answer, without `id` and without the last; raises `TrainError`."""


def serve() -> int:
    """Read requests until standard input ends; returns the exit status."""
    out = _private_stdout()
    requests: queue.Queue[Line | None] = queue.Queue()
    stopped: set[str] = set()
    threading.Thread(target=_read_requests, args=(requests, stopped), daemon=True).start()
    answerers: dict[str, Answerer] = {}
    while (request := requests.get()) is not None:
        identity = str(request.get("id", ""))
        try:
            for answer in _answerer(request, answerers).answer(request, partial(stopped.__contains__, identity)):
                _say(out, {"id": identity, **answer})
            _say(out, {"id": identity, "type": "done"})
        except TrainError as error:
            _say(out, _failed(identity, error.code, error.message, error.remedy))
        except (ImportError, OSError) as error:
            traceback.print_exc()
            _say(
                out,
                _failed(
                    identity,
                    "environment-broken",
                    f"The environment cannot load its libraries: {error}",
                    "Roll back, or install the dependencies again.",
                ),
            )
        except Exception as error:  # one bad request must not end the worker
            traceback.print_exc()
            _say(
                out,
                _failed(identity, "worker-failed", f"The request failed: {error}", "The app's log holds the details."),
            )
    return 0


def _answerer(request: Line, known: dict[str, Answerer]) -> Answerer:
    kind = request["type"]
    if kind not in known:
        module, name = ANSWERERS[kind]
        known[kind] = getattr(importlib.import_module(module), name)()
    return known[kind]


def _failed(identity: str, code: str, message: str, remedy: str) -> Line:
    return {"id": identity, "type": "failed", "code": code, "message": message[:500], "remedy": remedy}


def _private_stdout() -> IO[str]:
    """A copy of standard output for our lines; descriptor 1 then points at stderr, so no library's print can corrupt them."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _read_requests(requests: queue.Queue[Line | None], stopped: set[str]) -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("type") == "stop":
            stopped.add(str(request["id"]))
        else:
            requests.put(request)
    requests.put(None)


def _say(out: IO[str], line: Line) -> None:
    out.write(json.dumps(line, ensure_ascii=False) + "\n")
    out.flush()

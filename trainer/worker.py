"""Answer requests from the app: one JSON object a line in, streamed JSON lines out, until the app is gone.

A request names itself with `id`; every line that answers it carries the same. The only kind so far is `chat`:
`{"id", "type": "chat", "model", "adapter", "messages", "max_new_tokens", "temperature"}` is answered by lines
`{"id", "type": "token", "side": "base"|"tuned", "text"}` and ends with `done` or `failed`. `{"type": "stop"}`
with the same id ends an answer early.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from typing import IO, Any

from trainer.errors import TrainError

Line = dict[str, Any]


def serve() -> int:
    """Read requests until standard input ends; returns the exit status."""
    out = _private_stdout()
    requests: queue.Queue[Line | None] = queue.Queue()
    stopped: set[str] = set()
    threading.Thread(target=_read_requests, args=(requests, stopped), daemon=True).start()
    chat: Any = None
    while (request := requests.get()) is not None:
        identity = str(request.get("id", ""))
        try:
            if chat is None:
                from trainer.chat import Chat

                chat = Chat()
            for answer in chat.answer(request, lambda identity=identity: identity in stopped):
                _say(out, {"id": identity, **answer})
            _say(out, {"id": identity, "type": "done"})
        except TrainError as error:
            _say(
                out,
                {
                    "id": identity,
                    "type": "failed",
                    "code": error.code,
                    "message": error.message,
                    "remedy": error.remedy,
                },
            )
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

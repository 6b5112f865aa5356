"""A process that loads what a run needs before the run is started, and waits to be told the run's folder.

The order is one line on standard input. From then on the process is that run's trainer as if it had been started for
it; without an order it ends with its input. Where a run has a parent (`trainer.restarting`), that waits too and stays
small: its child loads the libraries, because a process with their threads could not fork any more.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from trainer.needs import leave_out_bitsandbytes
from trainer.operation import LOG
from trainer.restarting import forked, supervise, supervised

STDIN = 0


def stand_by(train: Callable[[Path], int]) -> int:
    """Load, wait for the order, train, and return the exit status; without an order the process ends here."""
    if not supervised():
        return _train_when_told(train)
    readable, writable = os.pipe()
    child = forked(partial(_wait_as_child, readable, writable, train))
    os.close(readable)
    line = _line()
    folder = _taken_up(line)

    def tell() -> int:
        try:
            os.write(writable, line)
            return child
        except BrokenPipeError:  # it was killed while it waited
            return forked(partial(train, folder))
        finally:
            os.close(writable)

    return supervise(folder, partial(train, folder), tell)


def _wait_as_child(readable: int, writable: int, train: Callable[[Path], int]) -> int:
    os.dup2(readable, STDIN)  # only the parent hears the app
    os.close(readable)
    os.close(writable)
    return _train_when_told(train)


def _train_when_told(train: Callable[[Path], int]) -> int:
    with suppress(ImportError):
        import trainer.spec  # noqa: F401 - both threads need it, and only one of them is to load it
    # In a thread, so that an order is taken up at once: an operation is alive when somebody holds its lock.
    threading.Thread(target=_load, daemon=True).start()
    return train(_taken_up(_line()))


def _load() -> None:
    leave_out_bitsandbytes()
    with suppress(Exception):  # the run will load it again, and say what is wrong
        importlib.import_module("trainer.loop")


def _line() -> bytes:
    with os.fdopen(STDIN, "rb", closefd=False) as stream:
        return stream.readline()


def _taken_up(line: bytes) -> Path:
    """The folder of the order, in which the process now works and whose log it writes."""
    if not line.endswith(b"\n"):  # the input has ended
        os._exit(0)  # whatever a thread is loading
    folder = Path(json.loads(line))
    os.chdir(folder)
    sys.stdout.flush()
    with open(os.devnull, "rb") as nothing, (folder / LOG).open("ab") as log:
        for ours, theirs in ((STDIN, nothing), (1, log), (2, log)):
            os.dup2(theirs.fileno(), ours)
    return folder

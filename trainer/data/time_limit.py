"""A limit of time on Python code that somebody else wrote, such as a chat template.

A watching thread raises an exception in the thread that works too long. It arrives between two steps of Python code,
so one single built-in operation cannot be ended by it.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

LOOK_SECONDS = 0.5


class TooLong(Exception):
    """The code has had its time."""


_lock = threading.Lock()
_deadlines: dict[int, float] = {}  # by the thread that works
_watching: threading.Thread | None = None


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise `TooLong` in the block when it takes longer; costs microseconds, so it may stand around anything small."""
    _watch()
    me = threading.get_ident()
    with _lock:
        _deadlines[me] = time.monotonic() + seconds
    try:
        yield
    finally:
        with _lock:
            late = _deadlines.pop(me, None) is None
        if late:
            _raise_in(me, None)  # what is still on its way must not arrive outside of the block


def _watch() -> None:
    global _watching
    if _watching is None or not _watching.is_alive():
        _watching = threading.Thread(target=_look, daemon=True)
        _watching.start()


def _look() -> None:
    while True:
        time.sleep(LOOK_SECONDS)
        with _lock:
            for thread in [each for each, deadline in _deadlines.items() if deadline < time.monotonic()]:
                del _deadlines[thread]
                _raise_in(thread, TooLong)


def _raise_in(thread: int, kind: type[Exception] | None) -> None:
    """Raise an exception in a thread at its next step, or take back one that has not been raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind) if kind else None)

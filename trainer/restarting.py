"""Stays beside a run on Linux: where the system kills it for want of memory, it goes on with smaller steps.

A killed process cannot tell why. The kernel counts its kills for want of memory, for each control group and for the
machine; this parent looks at the count every few seconds. SIGKILL together with a count that rose in the last half
minute is taken for want of memory: a large process takes a while to end. SIGKILL alone came from a person or a program,
and such a run is not started again.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from trainer.memory.kills import after_kill
from trainer.memory.room import out_of_memory_kills
from trainer.operation import HANDOVER, Operation, read_events

LOOK_SECONDS, ENDING_SECONDS = 2.0, 30.0
MOST_RESTARTS = 5
PR_SET_PDEATHSIG = 1


def supervised() -> bool:
    """Whether runs have a parent here; there is none where the system does not count its kills."""
    return out_of_memory_kills() is not None


def supervise(folder: Path, train: Callable[[], int], begin: Callable[[], int] | None = None) -> int:
    """Train in a child and return its exit status; killed where the child was. `begin` tells the first child's id."""
    if not supervised():
        return train()
    for restarts in range(MOST_RESTARTS + 1):
        status, for_memory = _watched(begin or partial(forked, train))
        begin = None
        if not for_memory or not _goes_on(folder, may=restarts < MOST_RESTARTS):
            break
    if status == -signal.SIGKILL:
        os.kill(os.getpid(), signal.SIGKILL)  # whoever waits for us sees what the child came to
    return status


def forked(act: Callable[[], int]) -> int:
    """The id of a child that does this and exits with what it returns."""
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        _die_with(parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        sys.exit(act())
    return child


def _watched(begin: Callable[[], int]) -> tuple[int, bool]:
    """The exit status of a child that trains, and whether the system ended it for want of memory."""
    counts = deque([(time.monotonic(), out_of_memory_kills() or 0)])
    child = begin()
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    while True:
        now = time.monotonic()
        counts.append((now, out_of_memory_kills() or 0))
        while len(counts) > 1 and counts[1][0] < now - ENDING_SECONDS:
            counts.popleft()
        signal.sigtimedwait({signal.SIGCHLD}, LOOK_SECONDS)
        ended, how = os.waitpid(child, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(how)
            return status, status == -signal.SIGKILL and (out_of_memory_kills() or 0) > counts[0][1]


def _die_with(parent: int) -> None:
    """Leave no run behind whose parent was killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed before this took effect
        os._exit(1)


def _goes_on(folder: Path, *, may: bool) -> bool:
    """Leave in the run's events what it is to do with less memory; where nothing is left to try, how it failed."""
    with Operation(folder) as operation:
        found = after_kill(read_events(folder)) if may else None
        if found is None:
            operation.emit(
                "failed",
                code="out-of-memory",
                message="The system ended the run for want of memory, and its steps cannot be made smaller.",
                remedy="Close other programs, lower `data.max_length`, or take a smaller or quantised model.",
            )
            return False
        operation.emit("progress", limit=asdict(found))
        operation.emit(
            "warning",
            message="The system ended the run for want of memory. It goes on from its newest checkpoint "
            f"{found.text}; each step still learns from as many rows as before.",
        )
        operation.emit("phase", phase=HANDOVER, text="Going on with less memory")
    return True

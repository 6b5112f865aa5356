"""Runs a child process in its own group, streams its output, ends the whole group on demand."""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

TICK_SECONDS = 0.25
# Of each stream the end is kept: a library may print without end. Readers wait while this many pieces are not taken.
MOST_KEPT = 16 * 1024**2
_MOST_WAITING = 2000
_LONGEST_PIECE = 64 * 1024
_POLL_SECONDS = 0.01  # much of what runs here takes no more than a few of them
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Finished:
    """How a child ended. `returncode` is negative for a signal; `ended` says who ended it, if we did."""

    returncode: int
    stdout: str
    stderr: str
    ended: str | None = None  # "cancelled", "timeout" or None


def _dies_with_parent() -> Callable[[], None] | None:
    # A killed installer must not leave uv writing into a folder that the next start cleans up.
    # The library is loaded here because a forked child must not import anything.
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return arm


def run(
    argv: Sequence[str],
    *,
    env: dict[str, str],
    cwd: Path,
    on_line: Callable[[str], None] = lambda line: None,
    on_tick: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] = lambda: False,
    timeout: float | None = None,
) -> Finished:
    """Run `argv` to its end, on cancellation or after `timeout` seconds ending its whole group.

    `on_line` gets each line of both streams, `on_tick` is called about four times a second, both
    from the calling thread.
    """
    process = subprocess.Popen(
        list(argv),
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=os.name == "posix",
        # Safe beside threads: the function makes two system calls and imports nothing.
        preexec_fn=_dies_with_parent(),
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
    lines: queue.Queue[tuple[str, str]] = queue.Queue(_MOST_WAITING)
    readers = [
        threading.Thread(target=_read, args=(name, stream, lines), daemon=True)
        for name, stream in (("stdout", process.stdout), ("stderr", process.stderr))
    ]
    for reader in readers:
        reader.start()
    kept = {"stdout": _Kept(), "stderr": _Kept()}
    try:
        ended = _follow(process, lines, kept, on_line, on_tick, cancelled, timeout)
    except BaseException:
        # Also on an exception in a callback: nothing that we started outlives this call.
        kill_group(process)
        _take_rest(readers, lines, kept, lambda line: None)
        raise
    kill_group(process)
    _take_rest(readers, lines, kept, on_line)
    return Finished(process.returncode, kept["stdout"].text(), kept["stderr"].text(), ended)


class _Kept:
    """The end of a stream."""

    def __init__(self) -> None:
        self._pieces: deque[str] = deque()
        self._size = 0

    def add(self, piece: str) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        while self._size > MOST_KEPT:
            self._size -= len(self._pieces.popleft())

    def text(self) -> str:
        return "".join(self._pieces)


def _read(name: str, stream: IO[str] | None, lines: queue.Queue[tuple[str, str]]) -> None:
    assert stream is not None
    with stream:
        # Not the stream's own lines: one without an end would fill the memory.
        while piece := stream.readline(_LONGEST_PIECE):
            lines.put((name, piece))


def _drain(lines: queue.Queue[tuple[str, str]], kept: dict[str, _Kept], on_line: Callable[[str], None]) -> None:
    # No more than what waits now: whoever prints faster than this takes would keep us from looking at the clock.
    for _ in range(lines.qsize()):
        name, piece = lines.get()
        kept[name].add(piece)
        on_line(piece.rstrip("\r\n"))


def _take_rest(
    readers: list[threading.Thread],
    lines: queue.Queue[tuple[str, str]],
    kept: dict[str, _Kept],
    on_line: Callable[[str], None],
) -> None:
    """What a child left in its pipes; a grandchild that still holds one is not waited for."""
    end = time.monotonic() + 5
    while any(reader.is_alive() for reader in readers) and time.monotonic() < end:
        _drain(lines, kept, on_line)
        time.sleep(0.01)
    _drain(lines, kept, on_line)


def _follow(
    process: subprocess.Popen[str],
    lines: queue.Queue[tuple[str, str]],
    kept: dict[str, _Kept],
    on_line: Callable[[str], None],
    on_tick: Callable[[], None],
    cancelled: Callable[[], bool],
    timeout: float | None,
) -> str | None:
    started = next_tick = time.monotonic()
    while process.poll() is None:
        _drain(lines, kept, on_line)
        if cancelled():
            return "cancelled"
        now = time.monotonic()
        if timeout is not None and now - started > timeout:
            return "timeout"
        if now >= next_tick:
            on_tick()
            next_tick = now + TICK_SECONDS
        if lines.empty():
            time.sleep(_POLL_SECONDS)
    return None


def kill_group(process: subprocess.Popen[str]) -> None:
    """End the child and everything it started, then wait for the child."""
    if os.name == "posix":
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            # The group is gone: macOS answers EPERM for a group of zombies.
            pass
    elif process.poll() is None:
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
    process.wait()

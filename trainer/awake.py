"""Keep the machine from sleeping while a run is active; what does so ends with the run, however that ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_WINDOWS_CONTINUOUS, _WINDOWS_SYSTEM_REQUIRED = 0x80000000, 0x00000001


@contextmanager
def kept_awake() -> Iterator[str]:
    """Hold the system's sleep lock; yields in words whether that was possible."""
    if sys.platform == "win32":
        import ctypes

        ctypes.windll.kernel32.SetThreadExecutionState(_WINDOWS_CONTINUOUS | _WINDOWS_SYSTEM_REQUIRED)
        yield "awake: Windows is asked not to sleep"
        ctypes.windll.kernel32.SetThreadExecutionState(_WINDOWS_CONTINUOUS)
        return
    argv = _command()
    if argv is None:
        yield "may sleep: this system has no systemd-inhibit or caffeinate"
        return
    # It ends when the pipe does, so also when this process is killed.
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as holder:
        try:
            yield f"awake: asked for with {os.path.basename(argv[0])}"
        finally:
            assert holder.stdin
            holder.stdin.close()
            holder.terminate()


def _command() -> list[str] | None:
    """What holds the lock for as long as its standard input is open."""
    if sys.platform == "darwin" and (found := shutil.which("caffeinate")):
        return [found, "-i", "-w", str(os.getpid())]
    if found := shutil.which("systemd-inhibit"):
        return [found, "--what=sleep:idle", "--who=Fettle", "--why=A model is being trained", "--mode=block", "cat"]
    return None

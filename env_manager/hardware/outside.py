"""The edge to the machine: running detection commands with a time limit, reading its files."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# A healthy nvidia-smi answers within two seconds; with a wedged driver it never does.
COMMAND_TIMEOUT_SECONDS = 15.0
_ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
_SYSTEMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}


@dataclass(frozen=True)
class CommandResult:
    """What a command printed; `problem` says why there is no usable answer."""

    output: str = ""
    returncode: int | None = None
    problem: Literal["missing", "hanging"] | None = None


Runner = Callable[[Sequence[str]], CommandResult]


@dataclass(frozen=True)
class Outside:
    """Everything that detection asks of the machine; a test hands in another machine's answers."""

    system: str
    arch: str
    run: Runner
    read: Callable[[str], str | None]  # a text file, or None
    names: Callable[[str], tuple[str, ...]]  # what a folder holds, nothing if it is not there
    environ: Mapping[str, str]
    cores: int

    @classmethod
    def here(cls) -> Outside:
        """The machine that this process runs on."""
        machine = platform.machine().lower()
        return cls(
            system=_SYSTEMS.get(sys.platform, sys.platform),
            arch=_ARCHITECTURES.get(machine, machine),
            run=run_command,
            read=_read,
            names=_names,
            environ=os.environ,
            cores=_cores(),
        )

    def said(self, *argv: str) -> str:
        """What a command printed if it succeeded, else nothing."""
        done = self.run(argv)
        return done.output if done.returncode == 0 else ""


def run_command(argv: Sequence[str]) -> CommandResult:
    """Run a detection command with a time limit; a missing or hanging one is an answer, not an error."""
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError:
        return CommandResult(problem="missing")
    try:
        output, _ = process.communicate(timeout=COMMAND_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        _give_up(process)
        return CommandResult(problem="hanging")
    return CommandResult(output, process.returncode)


def _give_up(process: subprocess.Popen[str]) -> None:
    try:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        # A process that waits inside a wedged driver cannot be killed; waiting on for it would hang us too.
        process.wait(timeout=1)
    except (OSError, subprocess.TimeoutExpired):
        pass
    if process.stdout:
        process.stdout.close()


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _names(folder: str) -> tuple[str, ...]:
    try:
        return tuple(sorted(os.listdir(folder)))
    except OSError:
        return ()


def _cores() -> int:
    # Affinity tells what a batch system lets us use; cpu_count does not.
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

"""Another machine's commands and files, handed to detection in place of this one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from env_manager.hardware import CommandResult, Outside

CAPTURED = Path(__file__).with_name("captured")


def captured(name: str) -> str:
    return (CAPTURED / name).read_text(encoding="utf-8")


def other_machine(
    system: str = "linux",
    arch: str = "x86_64",
    *,
    commands: Mapping[str, CommandResult | str] | None = None,
    files: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    cores: int = 8,
) -> Outside:
    """A machine on which commands are known by how their line begins, the longest match first; others are missing."""
    known = sorted((commands or {}).items(), key=lambda each: -len(each[0]))
    files = files or {}

    def run(argv: Sequence[str]) -> CommandResult:
        line = " ".join(argv)
        for start, answer in known:
            if line.startswith(start):
                return CommandResult(answer, 0) if isinstance(answer, str) else answer
        return CommandResult(problem="missing")

    def names(folder: str) -> tuple[str, ...]:
        front = folder.rstrip("/") + "/"
        return tuple(sorted({path.removeprefix(front).split("/")[0] for path in files if path.startswith(front)}))

    return Outside(system, arch, run, files.get, names, environ or {}, cores)


def with_smi(query: str | CommandResult, header: str = "smi_550.txt", program: str = "nvidia-smi", **more: object):
    """A machine whose nvidia-smi gives this answer to the query, named by file or whole, and prints that table."""
    answer = CommandResult(captured(query), 0) if isinstance(query, str) else query
    table = CommandResult(captured(header), 0)
    commands = {f"{program} --query-gpu": answer, program: table} | more.pop("commands", {})
    return other_machine(commands=commands, **more)

"""How much memory this machine has left, within the limits of the control groups that this process is in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """Bytes of main memory that this process could still take; None where nothing here tells."""
    if not sys.platform.startswith("linux"):
        try:
            import psutil
        except ImportError:  # the app does without
            return None
        return int(psutil.virtual_memory().available)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    told = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    return min([told["MemAvailable"], *(_left(folder) for folder in groups())])


def groups() -> Iterator[Path]:
    """The folders of this process's memory control groups, its own first; none where there are none."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers not in ("", "memory"):
                continue
            top = GROUPS / controllers
            own = top / path.lstrip("/")
            yield from (each for each in (own, *own.parents) if each.is_relative_to(top) and each.is_dir())


def _left(group: Path) -> int:
    """What a group's limit leaves; file pages that nobody uses are given back, so they count as free."""
    limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
    used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes")
    if not limit or used is None:
        return sys.maxsize
    return max(0, limit - used + (_counted(group / "memory.stat", "inactive_file") or 0))


def out_of_memory_kills() -> int | None:
    """How many processes the system has killed so far for want of memory, in our group where it counts; None: unknown."""
    for group in groups():
        for name in ("memory.events", "memory.oom_control"):
            counted = _counted(group / name, "oom_kill")
            if counted is not None:
                return counted
    return _counted(Path("/proc/vmstat"), "oom_kill")


def _number(file: Path) -> int | None:
    with suppress(OSError, ValueError):  # absent, or `max`
        return int(file.read_text(encoding="ascii"))
    return None


def _counted(file: Path, name: str) -> int | None:
    """The number behind a name in a file of `name number` lines."""
    with suppress(OSError, ValueError):
        for line in file.read_text(encoding="ascii").splitlines():
            if line.split()[:1] == [name]:
                return int(line.split()[1])
    return None

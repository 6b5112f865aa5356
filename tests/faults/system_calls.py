"""Faults at single system calls, made by strace: which calls an action makes, and how to fail or kill at one of them."""

from __future__ import annotations

import itertools
import random
import re
import shlex
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Those that change something on the disk or start somebody who does.
CHANGING = (
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "rmdir"),
    *("mkdir", "mkdirat", "openat", "write", "pwrite64", "copy_file_range", "sendfile", "ftruncate", "fallocate"),
    *("fsync", "fdatasync", "syncfs", "flock", "chmod", "fchmod", "fchmodat", "utimensat", "clone", "vfork"),
)
# uv counts its calls by thread, and which thread does what is not the same every time.
_LINE = re.compile(r"(\d+) +(\w+)\((.*)")


def require_strace() -> str:
    """The path of strace, which must be here and be let trace; says by name what is missing."""
    found = shutil.which("strace")
    assert found, "strace is not installed: on Debian and Ubuntu it is the package `strace`"
    tried = subprocess.run([found, "-qq", "-e", "trace=none", "true"], capture_output=True, text=True)
    assert tried.returncode == 0, f"ptrace is not permitted here, so no fault can be injected: {tried.stderr.strip()}"
    return found


@dataclass(frozen=True)
class Point:
    """The `number`-th call of that kind, in the action's own thread or in the `run`-th process of uv."""

    action: str
    call: str
    number: int
    run: int = 0  # 0 is the action itself
    phase: str = ""

    @property
    def program(self) -> str:
        return "uv" if self.run else "fettle"

    def __str__(self) -> str:
        return f"{self.action}, {self.call} {self.number} of {self.program}{self.run or ''} ({self.phase})"


@dataclass(frozen=True)
class Injection:
    """What happens at a point: `how` in strace's words, as `signal=SIGKILL` or `error=ENOSPC`."""

    point: Point
    how: str
    lasting: bool = False  # from that call on, and not only there

    @property
    def _expression(self) -> str:
        return f"inject={self.point.call}:{self.how}:when={self.point.number}{'+' * self.lasting}"

    def argv(self, argv: Sequence[str], folder: Path) -> tuple[list[str], dict[str, str]]:
        """The command with this fault in it, and what its environment must have."""
        options = ["-e", f"trace={self.point.call}", "-e", self._expression]
        if not self.point.run:
            return [*traced(options, folder / "trace.txt"), *argv], {}
        return list(argv), uv_traced(["-f", *options], folder, self.point.run)


def traced(options: Sequence[str], out: Path) -> list[str]:
    """strace that leaves the program the direct child of who started it."""
    return [require_strace(), "-D", "-qq", "-o", str(out), *options]


def uv_traced(options: Sequence[str], folder: Path, run: int) -> dict[str, str]:
    """The environment of an action whose `run`-th uv (0 is each) is traced."""
    from uv import find_uv_bin

    # The shell ends by becoming strace, and strace by becoming uv: one process, the child of the action.
    words = " ".join(shlex.quote(word) for word in traced(options, folder / "uv.RUN")).replace(".RUN", '."${0##*.}"')
    wrapper = folder / "uv-traced"
    wrapper.write_text(f'#!/bin/sh\nexec {words} {shlex.quote(find_uv_bin())} "$@"\n')
    wrapper.chmod(0o755)
    return {"UV_TRACE": str(wrapper), "UV_RUN": str(run)}


def calls_of(action: str, argv: Sequence[str], environ: Mapping[str, str], folder: Path) -> list[Point]:
    """Run an action once to its end and tell every changing call that it made, in order."""
    options = ["-e", "trace=" + ",".join(CHANGING)]
    environ = {**environ, **uv_traced(["-f", *options], folder, 0)}
    command = [*traced(options, folder / "calls.txt"), *argv]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    points, phases = _own_calls(action, (folder / "calls.txt").read_text(errors="replace"))
    for file in sorted(folder.glob("uv.*"), key=lambda each: int(each.suffix[1:])):
        run = int(file.suffix[1:])
        points += _uv_calls(action, run, phases.get(run, ""), file.read_text(errors="replace"))
        file.unlink()
    return points


def _own_calls(action: str, text: str) -> tuple[list[Point], dict[int, str]]:
    """The calls after Python has started, each with the phase it was in; and the phase of each run of uv."""
    counts: Counter[str] = Counter()
    points: list[Point] = []
    phases: dict[int, str] = {}
    phase, begun, runs = "begin", False, 0
    for call, rest in re.findall(r"^(\w+)\((.*)", text, re.MULTILINE):
        counts[call] += 1
        said = re.match(r'1, "(phase:|step:|begin)?(\w*)', rest) if call == "write" else None
        if said:
            begun = begun or said[1] == "begin"
            phase = said[2] if said[1] == "phase:" else phase
        if begun and not _harmless(call, rest):
            points.append(Point(action, call, counts[call], phase=phase))
        if call == "write" and re.match(r'\d+, "\$ uv ', rest):
            runs += 1
            phases[runs] = phase
    return points, phases


def _uv_calls(action: str, run: int, phase: str, text: str) -> list[Point]:
    counts: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, int], Point] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            thread, call, rest = match.groups()
            counts[thread, call] += 1
            number = counts[thread, call]
            if not _harmless(call, rest):
                found[call, number] = Point(action, call, number, run, phase)
    return list(found.values())


def _harmless(call: str, rest: str) -> bool:
    """An open that only reads, a word to the harness, a wake-up of a thread: not worth a trial of their own."""
    reading = call == "openat" and "O_CREAT" not in rest and "O_WRONLY" not in rest and "O_RDWR" not in rest
    telling = call == "write" and (rest.startswith("1, ") or '"\\1\\0\\0' in rest)
    return reading or telling or rest.endswith(("(No such file or directory)", "(File exists)"))


def of_each_kind(points: Sequence[Point], count: int, chance: random.Random) -> list[Point]:
    """As many points, one after the other from each phase and kind of call."""
    groups: dict[tuple[str, ...], list[Point]] = defaultdict(list)
    for point in points:
        groups[point.action, point.program, point.phase, point.call].append(point)
    lots = list(groups.values())
    for lot in lots:
        chance.shuffle(lot)
    chance.shuffle(lots)
    turns = itertools.zip_longest(*lots)
    return [point for turn in turns for point in turn if point][:count]

"""Named checks of an environment, each with evidence and a remedy."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from env_manager import child
from env_manager.diagnosing.signatures import COSMETIC
from env_manager.errors import InstallStopped
from env_manager.planning.torch_index import visible_devices
from env_manager.proving.file_record import RECORD_NAME, against_own_record
from env_manager.proving.finding import REMEDY, Check
from env_manager.proving.machine_checks import Recorded, machine_checks, told_by_plan
from env_manager.proving.probe import CHECKS, MARK, SECONDS
from env_manager.uv import clean_environment

__all__ = ["REMEDY", "Check", "Checkable", "check", "check_files", "probe", "probes_for"]

PROBE = Path(__file__).with_name("probe.py")
# The whole set takes 20 s on a slow machine with a cold disk; what takes ten times that hangs.
CHECK_TIMEOUT_SECONDS = 240.0
_MOST_LINES, _MOST_SAID = 5000, 4000
_QUIET = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
# How Windows tells that a program crashed.
_NT_STATUS = {
    0xC0000005: "access violation",
    0xC000001D: "Illegal instruction",
    0xC000007B: "not a valid Win32 application",
    0xC0000017: "out of memory",
    0xC00000FD: "stack overflow",
    0xC0000135: "a DLL was not found",
    0xC0000139: "a DLL lacks a procedure",
    0xC0000142: "a DLL failed to initialise",
    0xC0000374: "heap corruption",
    0xC0000409: "stack buffer overrun",
}


class Checkable(Recorded, Protocol):
    """What a check needs to know of an environment; a Generation has it."""

    @property
    def python(self) -> Path: ...
    @property
    def probes(self) -> Sequence[str]: ...
    @property
    def plan(self) -> Mapping[str, Any]: ...


def check(
    generation: Checkable,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    log: Callable[[str], None] = lambda line: None,
    more: Sequence[str] = (),
) -> list[Check]:
    """Check interpreter, files, machine and every package; findings, never exceptions of the app.

    `more` names probes beside the recorded ones, as `model_type:qwen3` for the model of a run.
    """
    environ = visible_devices((generation.plan.get("torch") or {}).get("devices") or ())
    first = [*check_files(generation), *machine_checks(generation)]
    names = [*told_by_plan(generation), *generation.probes, *more]
    return [*first, *probe(generation.python, names, cancelled=cancelled, log=log, environ=environ)]


def check_files(generation: Checkable) -> list[Check]:
    """The quick half, well under a second: interpreter present, every file there with its size."""
    python = generation.python
    if not os.path.exists(python):
        evidence = f"{python} is missing or points to a Python that was removed."
        return [Check("interpreter", False, evidence, REMEDY)]
    damage = against_own_record(generation.env, generation.folder / RECORD_NAME)
    files = Check("files", True, "Every recorded file is there with its size.")
    if damage:
        more = f" and {len(damage) - 1} more" if len(damage) > 1 else ""
        files = Check("files", False, f"{damage[0]}{more}.", REMEDY)
    return [Check("interpreter", True, f"{python.name} is there."), files]


def probe(
    python: Path,
    names: Sequence[str],
    *,
    cancelled: Callable[[], bool] = lambda: False,
    log: Callable[[str], None] = lambda line: None,
    on_tick: Callable[[], None] = lambda: None,
    timeout: float = CHECK_TIMEOUT_SECONDS,
    environ: Mapping[str, str] | None = None,
) -> list[Check]:
    """Run probes in a subprocess of that interpreter; after a crash or hang the rest is run anew without it.

    `environ` is added to its environment, as to let it see only some GPUs.
    """
    left = list(names)
    checks: list[Check] = []
    log = _thinned(log)
    while left:
        done = _run(python, left, cancelled, log, on_tick, timeout, environ or {})
        if isinstance(done, Check):
            return [*checks, done]
        ended, began = _read(done.stdout, left)
        said = _said(done.stderr)
        checks += [_with_words(each, said.get(each.name, "")) for each in ended]
        left = [name for name in left if name not in {each.name for each in ended}]
        if left and began is None and not ended:
            return [*checks, _not_started(done, timeout)]
        if left:
            culprit = began if began in left else left[0]
            words = said.get(culprit, done.stderr[-_MOST_SAID:])
            checks.append(Check(culprit, False, _how_it_ended(done, timeout, words), REMEDY, detail=words))
            left.remove(culprit)
    return checks


def _thinned(log: Callable[[str], None]) -> Callable[[str], None]:
    """A log that a library which prints without end does not fill."""
    told = 0

    def line(text: str) -> None:
        nonlocal told
        told += 1
        if told <= _MOST_LINES:
            log(text[:2000])
        elif told == _MOST_LINES + 1:
            log("(More was printed than is kept.)")

    return line


def _not_started(done: child.Finished, timeout: float) -> Check:
    """The interpreter ended before the first check began."""
    words = done.stderr[-_MOST_SAID:].strip()
    return Check("interpreter", False, _how_it_ended(done, timeout, words), REMEDY, detail=words)


def _run(
    python: Path,
    names: Sequence[str],
    cancelled: Callable[[], bool],
    log: Callable[[str], None],
    on_tick: Callable[[], None],
    timeout: float,
    environ: Mapping[str, str],
) -> child.Finished | Check:
    try:
        done = child.run(
            [str(python), "-I", str(PROBE), *names],
            env=clean_environment() | _QUIET | {SECONDS: str(timeout * 0.9)} | dict(environ),
            cwd=python.parent,
            on_line=log,
            on_tick=on_tick,
            cancelled=cancelled,
            timeout=timeout,
        )
    except OSError as error:
        return Check("interpreter", False, f"{python} cannot be started: {error.strerror or error}.", REMEDY)
    if done.ended == "cancelled":
        raise InstallStopped()
    return done


def _read(stdout: str, expected: Sequence[str]) -> tuple[list[Check], str | None]:
    """Finished checks and the name of the check that began last; anything else is no answer."""
    ended: dict[str, Check] = {}
    began: str | None = None
    for line in stdout.splitlines():
        if not line.startswith(MARK):
            continue
        try:
            row = json.loads(line.removeprefix(MARK))
            name, event = row["name"], row["event"]
            if name in expected and event == "begin":
                began = name
            elif name in expected and name not in ended:
                remedy = None if row["ok"] is True else REMEDY
                detail = str(row.get("detail", ""))
                ended[name] = Check(
                    name, row["ok"] is True, str(row["evidence"]), remedy, float(row["seconds"]), detail
                )
        except (ValueError, KeyError, TypeError):
            continue  # cut off by the crash that is reported by its missing end, or written by a library
    return list(ended.values()), began


def _said(stderr: str) -> dict[str, str]:
    """What was said on stderr while each check ran, the end of it."""
    said: dict[str, str] = {}
    for part in stderr.split(MARK)[1:]:
        first, _, rest = part.partition("\n")
        try:
            said[json.loads(first)["name"]] = rest.strip()[-_MOST_SAID:]
        except (ValueError, KeyError, TypeError):
            continue  # a line that a library wrote into
    return said


def _with_words(check: Check, said: str) -> Check:
    """What was said beside a failure; beside a success only that a complaint means nothing."""
    if not check.ok:
        return replace(check, detail="\n".join(each for each in (check.detail, said) if each))
    calm = " ".join(each.cause for each in COSMETIC if each.found_in(said))
    return replace(check, evidence=f"{check.evidence}. A warning of it is cosmetic: {calm}") if calm else check


def _how_it_ended(done: child.Finished, timeout: float, stderr: str) -> str:
    said = _last_words(stderr)
    if done.ended == "timeout":
        return f"It did not answer within {timeout:.0f} s.{said}"
    code = done.returncode
    # A shell around the interpreter tells a signal as 128 and its number.
    number = -code if code < 0 else code - 128 if os.name == "posix" and 128 < code < 160 else 0
    if number:
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return f"The interpreter crashed ({name}).{said}"
    if code & 0xFFFFFFFF in _NT_STATUS:
        return f"The interpreter crashed ({_NT_STATUS[code & 0xFFFFFFFF]}, 0x{code & 0xFFFFFFFF:08X}).{said}"
    return f"The interpreter ended with exit code {code}.{said}"


def _last_words(stderr: str) -> str:
    """The place that Python was at, and the last line before it told that."""
    before, _, stack = stderr.partition("(most recent call first)")
    frame = re.search(r'File "([^"]+)", line (\d+)', stack)
    place = f" At {frame.group(1)}:{frame.group(2)}." if frame else ""
    lines = [line.strip() for line in before.splitlines() if line.strip()]
    # These two introduce the stack.
    lines = [line for line in lines if not re.match(r"(Fatal Python error:|(Current )?[Tt]hread 0x|Timeout \()", line)]
    return f"{f' Last words: {lines[-1][:300]}' if lines else ''}{place}"


def probes_for(packages: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Of the catalog's probes those whose package is installed; generic import probes always count."""
    have = {package.replace("-", "_") for package in packages}
    if "triton-windows" in packages:
        have.add("triton")
    return tuple(name for name in names if name not in CHECKS or name in have)

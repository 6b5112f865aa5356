"""Named checks of an environment, each with evidence and a remedy."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from env_manager import child
from env_manager.errors import InstallStopped
from env_manager.file_record import RECORD_NAME, against_own_record
from env_manager.finding import REMEDY, Check
from env_manager.machine_checks import Recorded, machine_checks, told_by_plan
from env_manager.probe import CHECKS, MARK
from env_manager.torch_index import visible_devices
from env_manager.uv import clean_environment

__all__ = ["REMEDY", "Check", "Checkable", "check", "check_files", "probe", "probes_for"]

PROBE = Path(__file__).with_name("probe.py")
# The whole set takes 20 s on a slow machine with a cold disk; what takes ten times that hangs.
CHECK_TIMEOUT_SECONDS = 240.0


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
    if not python.exists():
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
    while left:
        done = _run(python, left, cancelled, log, on_tick, timeout, environ or {})
        if isinstance(done, Check):
            return [*checks, done]
        ended, began = _read(done.stdout)
        said = _said(done.stderr)
        checks += [
            each if each.ok else replace(each, detail=_joined(each.detail, said.get(each.name))) for each in ended
        ]
        left = left[len(ended) :]
        if left:
            culprit = began if began in left else left[0]
            how = _how_it_ended(done, timeout, said.get(culprit, ""))
            checks.append(Check(culprit, False, how, REMEDY, detail=said.get(culprit, "")))
            left.remove(culprit)
    return checks


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
            env=clean_environment() | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", **environ},
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


def _read(stdout: str) -> tuple[list[Check], str | None]:
    """Finished checks and the name of the check that began last."""
    ended: list[Check] = []
    began: str | None = None
    for line in stdout.splitlines():
        if not line.startswith(MARK):
            continue
        try:
            row = json.loads(line.removeprefix(MARK))
        except ValueError:
            continue  # a line cut off by the crash that is reported by its missing end
        if row["event"] == "begin":
            began = row["name"]
        else:
            remedy = None if row["ok"] else REMEDY
            detail = row.get("detail", "")
            ended.append(Check(row["name"], row["ok"], row["evidence"], remedy, row["seconds"], detail))
    return ended, began


def _said(stderr: str) -> dict[str, str]:
    """What was said on stderr while each check ran, the end of it."""
    said: dict[str, str] = {}
    for part in stderr.split(MARK)[1:]:
        first, _, rest = part.partition("\n")
        try:
            said[json.loads(first)["name"]] = rest.strip()[-4000:]
        except (ValueError, KeyError):
            continue  # a line that a library wrote into
    return said


def _joined(detail: str, said: str | None) -> str:
    return "\n".join(each for each in (detail, said) if each)


def _how_it_ended(done: child.Finished, timeout: float, stderr: str) -> str:
    if done.ended == "timeout":
        return f"It did not answer within {timeout:.0f} s."
    last = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "")
    said = f" Last words: {last[:300]}" if last else ""
    if done.returncode < 0:
        try:
            name = signal.Signals(-done.returncode).name
        except ValueError:
            name = f"signal {-done.returncode}"
        return f"The interpreter crashed ({name}).{said}"
    return f"The interpreter ended with exit code {done.returncode}.{said}"


def probes_for(packages: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Of the catalog's probes those whose package is installed; generic import probes always count."""
    have = {package.replace("-", "_") for package in packages}
    if "triton-windows" in packages:
        have.add("triton")
    return tuple(name for name in names if name not in CHECKS or name in have)

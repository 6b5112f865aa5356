"""`fettle doctor`: what this machine is, what is installed, whether it works; redacted, for pasting."""

from __future__ import annotations

import io
import json
import platform
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app import __version__
from app.environment import environment_view
from app.errors import AppError
from app.operations import Operations
from app.redaction import Redaction
from app.terminal import say_json, size
from env_manager.diagnosing.diagnosis import Finding, diagnose, diagnose_install
from env_manager.errors import EnvError
from env_manager.proving.preflight import check

# The end of a log says how it ended; a whole one may be a gigabyte.
_MOST_LOG_BYTES = 1_000_000
_NEWEST_LOGS = 5


def run(operations: Operations, *, as_json: bool, bundle: Path | None = None) -> int:
    """Print the report; returns 1 when the active environment does not work, else 0."""
    redact = Redaction()
    report = examine(operations)
    text = _in_words(report)
    if bundle:
        _pack(operations, report, text, bundle, redact)
    if as_json:
        say_json(redact.value(report))
    else:
        print(redact(text), flush=True)
        if bundle:
            print(f"bundle: {bundle}")
    return 0 if report["sound"] else 1


def examine(operations: Operations) -> dict[str, Any]:
    """Everything the report is made of, not yet redacted."""
    view = environment_view(operations)
    status = operations.store.status()
    active = status.active
    checks = check(active) if active else []
    findings = diagnose(active, checks=checks) if active else []
    failed = _failed_install(operations)
    return {
        "version": __version__,
        "python": platform.python_version(),
        "home": str(operations.home.root),
        "environment": view.model_dump(mode="json"),
        "problems": [each.as_json() for each in status.problems],
        "checks": [each.as_json() for each in checks],
        "findings": [each.as_json() for each in findings],
        "last_install_failed": [each.as_json() for each in failed],
        "sound": view.problem is None and not status.problems and all(each.ok for each in checks) and not findings,
    }


def _failed_install(operations: Operations) -> list[Finding]:
    """Why the newest installation failed, if it did."""
    installs = [each for each in operations.refresh() if each.record["kind"] == "install"]
    problem = installs[0].view().problem if installs else None
    return diagnose_install(EnvError(problem.code, problem.message, problem.remedy)) if problem else []


def lines_of(checks: list[dict[str, Any]], findings: list[dict[str, Any]]) -> Iterator[str]:
    """Checks and findings as lines for people."""
    for each in checks:
        yield f"{'ok' if each['ok'] else '!!'} {each['name']}: {each['evidence']}"
    for each in findings:
        action = f"  (fettle env {each['action']})" if each["action"] else ""
        yield f"\n{each['name']}: {each['cause']}\n   seen: {each['evidence']}\n   {each['remedy']}{action}"


def _in_words(report: dict[str, Any]) -> str:
    environment = report["environment"]
    machine = environment["hardware"]
    gpus = "".join(f"; {gpu['name']} ({gpu['compute_capability']})" for gpu in machine["gpus"])
    lines = [
        f"fettle {report['version']}, Python {report['python']}",
        f"home: {report['home']}",
        f"{machine['system']} {machine['machine']}; {machine['cpu']}, {machine['cores']} cores,"
        f" {size(machine['memory_bytes'])} memory, {size(machine['disk_free_bytes'])} free",
        f"accelerator: {machine['accelerator']}{gpus}",
        f"environment: {environment['active'] or 'none; next: fettle env install'}",
    ]
    problems = {
        each["code"]: each for each in [*report["problems"], *([environment["problem"]] * bool(environment["problem"]))]
    }
    lines += [f"!! {each['message']}\n   {each['remedy']}  [{each['code']}]" for each in problems.values()]
    lines += lines_of(report["checks"], report["findings"])
    if report["last_install_failed"]:
        lines.append("\nThe last installation failed:")
        lines += lines_of([], report["last_install_failed"])
    return "\n".join(lines)


def _pack(operations: Operations, report: dict[str, Any], text: str, bundle: Path, redact: Redaction) -> None:
    """Write the report and what explains it to a ZIP, every file of it redacted."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("report.txt", redact(text))
        out.writestr("report.json", json.dumps(redact.value(report), indent=1, ensure_ascii=False))
        for name, file in _files(operations):
            try:
                with file.open("rb") as data:
                    data.seek(max(0, file.stat().st_size - _MOST_LOG_BYTES))
                    content = data.read().decode("utf-8", errors="replace")
            except OSError as error:
                content = f"It could not be read: {error.strerror}"
            out.writestr(name, redact(content))
    try:
        bundle.write_bytes(packed.getvalue())
    except OSError as error:
        raise AppError(
            "bundle-unwritable", f"{bundle} cannot be written: {error.strerror}.", "Name a file that you can write to."
        ) from error


def _files(operations: Operations) -> Iterator[tuple[str, Path]]:
    """What explains a broken environment: records and logs, never data, models or what a run wrote."""
    store = operations.store
    active = store.active_id()
    for generation in store.list():
        names = ["generation.json", "install.log"] + ["requirements.lock"] * (generation.id == active)
        yield from ((f"envs/{generation.id}/{name}", generation.folder / name) for name in names)
    for file in (store.history, store.envs / "failed-install.log", operations.home.root / "app.log"):
        if file.is_file():
            yield file.name, file
    for each in operations.refresh()[:_NEWEST_LOGS]:
        if (each.folder / "log.txt").is_file():
            yield f"operations/{each.id}.log", each.folder / "log.txt"

"""Looks at an environment: its checks, and the diagnosis of what fails in them."""

from __future__ import annotations

import time
from collections.abc import Callable

from app.api.schema import Action, CheckedView, FindingView
from app.api.schema_generations import CheckView
from app.operations import Operations
from app.views import finding_view
from env_manager.diagnosing.diagnosis import Finding, diagnose
from env_manager.errors import InstallStopped
from env_manager.generations import Generation
from env_manager.proving.damage import forget_damage, note_damage
from env_manager.proving.finding import Check
from env_manager.proving.preflight import check


def check_environment(
    operations: Operations,
    generation: str | None,
    *,
    full: bool,
    cancelled: Callable[[], bool] = lambda: False,
) -> CheckedView:
    """Check one generation, or the active one; raises `AppError` or `EnvError` when there is none.

    What is found wrong with its files is remembered, so that no rollback leads there.
    """
    started = time.perf_counter()
    chosen = operations.store.get(generation) if generation else operations.active_generation()
    checks = check(chosen, cancelled=cancelled)
    findings = diagnose(chosen, checks=checks, full=full, cancelled=cancelled)
    if cancelled():
        raise InstallStopped()
    sound = not findings and all(each.ok for each in checks)
    _remember(chosen, findings, sound=sound and full)
    can_go_back = operations.store.status().previous is not None
    return CheckedView(
        generation=chosen.id,
        sound=sound,
        seconds=time.perf_counter() - started,
        checks=[check_view(each) for each in checks],
        findings=[_finding(each, can_go_back=can_go_back) for each in findings],
    )


def _remember(generation: Generation, findings: list[Finding], *, sound: bool) -> None:
    own = next((each for each in findings if each.action == "repair"), None)  # not the machine's fault
    if own:
        note_damage(generation.folder, f"{own.cause} {own.evidence.splitlines()[0]}")
    elif sound:
        forget_damage(generation.folder)


def check_view(check: Check) -> CheckView:
    """A check as the page shows it; what holds needs no remedy."""
    return CheckView(name=check.name, ok=check.ok, evidence=check.evidence, remedy=None if check.ok else check.remedy)


def _finding(finding: Finding, *, can_go_back: bool) -> FindingView:
    return finding_view(finding).model_copy(update={"action": action_of(finding, can_go_back=can_go_back)})


def action_of(finding: Finding, *, can_go_back: bool) -> Action | None:
    """The click that mends it, which must lead somewhere."""
    if finding.action == "rollback" and not can_go_back:
        return "repair"  # it also takes damaged files out of the package cache
    return finding.action

"""Looks at an environment: its checks, and the diagnosis of what fails in them."""

from __future__ import annotations

import time

from app.api.schema import Action, CheckedView, CheckView, FindingView
from app.operations import Operations
from env_manager.diagnosis import Finding, diagnose
from env_manager.finding import Check
from env_manager.preflight import check


def check_environment(operations: Operations, generation: str | None, *, full: bool) -> CheckedView:
    """Check one generation, or the active one; raises `AppError` or `EnvError` when there is none."""
    started = time.perf_counter()
    chosen = operations.store.get(generation) if generation else operations.active_generation()
    checks = check(chosen)
    findings = diagnose(chosen, checks=checks, full=full)
    can_go_back = operations.store.status().previous is not None
    return CheckedView(
        generation=chosen.id,
        sound=not findings and all(each.ok for each in checks),
        seconds=time.perf_counter() - started,
        checks=[_check(each) for each in checks],
        findings=[_finding(each, can_go_back=can_go_back) for each in findings],
    )


def _check(check: Check) -> CheckView:
    return CheckView(name=check.name, ok=check.ok, evidence=check.evidence, remedy=None if check.ok else check.remedy)


def _finding(finding: Finding, *, can_go_back: bool) -> FindingView:
    return FindingView(
        name=finding.name,
        cause=finding.cause,
        evidence=finding.evidence,
        remedy=finding.remedy,
        action=action_of(finding, can_go_back=can_go_back),
    )


def action_of(finding: Finding, *, can_go_back: bool) -> Action | None:
    """The click that mends it, which must lead somewhere."""
    if finding.action == "rollback" and not can_go_back:
        return "repair"  # it also takes damaged files out of the package cache
    return finding.action

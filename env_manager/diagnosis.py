"""Names what is wrong with an environment or an installation: cause, evidence, remedy, and the click that mends it.

What lies on the disk says more than what a library complains about, so it is asked first; the words of
failing checks are read next. Nothing is changed here, and what is not recognised is called unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from env_manager import preflight
from env_manager.disk_symptoms import files_symptoms
from env_manager.errors import EnvError
from env_manager.finding import Check
from env_manager.generations import Generation
from env_manager.hardware import Hardware
from env_manager.machine_checks import machine_checks, told_by_plan
from env_manager.signatures import COSMETIC, IN_CHECKS, IN_INSTALLS, Action, Signature

# A consequence that shows beside these is not worth a line of its own.
_EXPLAIN_ALL = ("interpreter-missing", "python-other")
# These say how it shows rather than why: whatever names a cause comes before them.
_GENERAL = (
    *("library-unloadable", "torch-library-unloadable", "file-corrupt", "module-missing", "crashes", "hangs"),
    *("package-replaced", "package-twice"),
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, by a name that stays the same; `action` is the click that mends it."""

    name: str
    cause: str
    evidence: str
    remedy: str
    action: Action | None = None
    cosmetic: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def diagnose(
    generation: Generation,
    *,
    hardware: Hardware | None = None,
    more: Sequence[str] = (),
    cancelled: Callable[[], bool] = lambda: False,
    checks: Sequence[Check] | None = None,
    timeout: float = preflight.CHECK_TIMEOUT_SECONDS,
    full: bool = True,
) -> list[Finding]:
    """What is wrong with an environment, the root cause first; nothing for a healthy one.

    `more` names probes beside the recorded ones; `checks` are given where they were just made. With
    `full` the content of every file is compared too, which takes seconds.
    """
    if checks is None:
        checks = _checks(generation, hardware, more, cancelled, timeout)
    on_disk = [Finding(**each) for each in files_symptoms(generation, full=full, cancelled=cancelled)]
    in_words = _from_checks(checks)
    if any(check.name == "numpy" and not check.ok for check in checks):
        # Where numpy itself is broken, those above complain as if it were of another version.
        in_words = [each for each in in_words if not each.name.startswith("numpy-")]
    found = on_disk + in_words
    return _sorted_out(sorted(found, key=lambda each: _rank(each, on_disk)), checks)


def _rank(finding: Finding, on_disk: Sequence[Finding]) -> int:
    if finding.name not in _GENERAL:
        return 0
    return 1 if finding in on_disk else 2


def diagnose_install(error: EnvError | str) -> list[Finding]:
    """Why an installation failed, from its error or from an installer's output."""
    if isinstance(error, str):
        said, code = error, ""
    else:
        said, code = f"{error.message}\n{getattr(error, 'output', '')}", error.code
    for signature in IN_INSTALLS:
        if re.search(signature.pattern, said, re.IGNORECASE):
            return [_finding(signature, _line_of(signature, said))]
    if code == "probe-failed":
        found = _from_checks([Check("probe", False, said)])
        if found:
            return found
    return [_unknown(said)]


def _checks(
    generation: Generation,
    hardware: Hardware | None,
    more: Sequence[str],
    cancelled: Callable[[], bool],
    timeout: float,
) -> list[Check]:
    first = [*preflight.check_files(generation), *machine_checks(generation, hardware)]
    if not first[0].ok:
        return first  # without an interpreter nothing else can be asked
    names = [*told_by_plan(generation), *generation.probes, *more]
    return first + preflight.probe(generation.python, names, cancelled=cancelled, timeout=timeout)


def _from_checks(checks: Iterable[Check]) -> list[Finding]:
    return [found for check in checks if not check.ok for found in _named(check)]


def _named(check: Check) -> Iterator[Finding]:
    """The failures that a failing check's words tell of: the first row that matches is the cause."""
    if check.name in ("interpreter", "files", "packages"):
        return  # the disk was asked about these already
    if check.name == "disk":
        yield Finding("disk-full", "The disk is nearly full.", check.evidence, check.remedy or "")
        return
    said = f"{check.evidence}\n{check.detail}"
    for signature in IN_CHECKS:
        wanted = not signature.of or check.name.split(":")[0] in signature.of
        if wanted and re.search(signature.pattern, said, re.IGNORECASE | re.DOTALL):
            yield _finding(signature, f"{check.name}: {_line_of(signature, said)}")
            return
    missing = re.search(r"No module named '([\w.]+)'", said)
    if missing:
        cause = f"The module {missing.group(1)} is not there."
        yield Finding("module-missing", cause, f"{check.name}: {missing.group()}", _REPAIR, "repair")


_REPAIR = "Repair the environment: it is built again from its own lock."


def cosmetic(text: str) -> list[Finding]:
    """Complaints in a log that mean nothing for training."""
    return [
        replace(_finding(signature, _line_of(signature, text)), cosmetic=True)
        for signature in COSMETIC
        if re.search(signature.pattern, text, re.IGNORECASE)
    ]


def _finding(signature: Signature, evidence: str) -> Finding:
    return Finding(signature.name, signature.cause, evidence, signature.remedy, signature.action)


def _line_of(signature: Signature, text: str) -> str:
    """The line that the signature was recognised by."""
    found = re.search(signature.pattern, text, re.IGNORECASE | re.DOTALL)
    at = found.start() if found else 0
    begin, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
    line = text[begin : end if end >= 0 else len(text)].strip()
    return line if len(line) <= 400 else line[:397] + "..."


def _sorted_out(found: list[Finding], checks: Sequence[Check]) -> list[Finding]:
    """One finding a name, in the order found: the disk's come first, being causes; unknown if there are none."""
    merged: dict[str, Finding] = {}
    for each in found:
        if each.name not in merged:
            merged[each.name] = each
        elif each.evidence not in merged[each.name].evidence:
            joined = f"{merged[each.name].evidence}\n{each.evidence}"
            merged[each.name] = replace(merged[each.name], evidence=joined)
    first = next(iter(merged), None)
    if first in _EXPLAIN_ALL:
        return [merged[first]]
    broken = [check for check in checks if not check.ok]
    if broken and not merged:
        return [_unknown("\n".join(f"{check.name}: {check.evidence}\n{check.detail}" for check in broken))]
    return list(merged.values())


def _unknown(said: str) -> Finding:
    return Finding(
        "unknown",
        "What is wrong is not known; this is what was seen.",
        said.strip()[:4000],
        "Roll back to the previous environment or install again; `fettle doctor --bundle` packs what is needed to ask.",
        "rollback",
    )

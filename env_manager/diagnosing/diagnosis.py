"""Names what is wrong with an environment or an installation: cause, evidence, remedy, and the click that mends it.

What lies on the disk says more than what a library complains about, so it is asked first; the words of
failing checks are read next. Nothing is changed here, and what is not recognised is called unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from env_manager.diagnosing import library_symptoms
from env_manager.diagnosing.disk_symptoms import files_symptoms
from env_manager.diagnosing.signature import NO_STRANGERS, REBUILD, Action, Signature
from env_manager.diagnosing.signatures import COSMETIC, IN_CHECKS
from env_manager.diagnosing.signatures_install import IN_INSTALLS
from env_manager.errors import EnvError
from env_manager.generations import Generation
from env_manager.hardware import Hardware
from env_manager.proving import preflight
from env_manager.proving.finding import Check
from env_manager.proving.machine_checks import machine_checks, told_by_plan

# A consequence that shows beside these is not worth a line of its own.
_EXPLAIN_ALL = ("interpreter-missing", "python-other")
# These say how it shows rather than why: whatever names a cause comes before them.
_GENERAL = (
    *("library-unloadable", "torch-library-unloadable", "file-corrupt", "module-missing", "crashes", "hangs"),
    *("package-replaced", "package-twice"),
)
# Where the stack of a crash begins: it names libraries that have nothing to do with it.
_STACK = r"Fatal Python error:|Timeout \(\d"
# An installation's errors that say no cause, and those whose cause has another name here.
_SAY_NOTHING = ("install-failed", "uv-failed", "probe-failed", "system-error")
_SAY_LITTLE = ("index-unreachable", "resolve-impossible")
_SAME = {
    "install-running": "two-installs",
    "index-invalid": "index-not-an-index",
    "uv-killed": "out-of-memory",
    "index-unreachable": "index-down",
    "resolve-impossible": "versions-conflict",
}


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
    behind = _behind_words(generation, checks)
    found = on_disk + behind + in_words
    found = _sorted_out(sorted(found, key=lambda each: 0 if each in behind else _rank(each, on_disk)), checks)
    if [each.name for each in found] == ["unknown"]:
        return [replace(found[0], evidence="\n".join([found[0].evidence, *_suspects(generation)]))]
    return found


def _behind_words(generation: Generation, checks: Sequence[Check]) -> list[Finding]:
    said = "\n".join(f"{check.evidence}\n{check.detail}" for check in checks if not check.ok)
    cause = "A library was built for another processor, system or Python."
    found = [
        Finding("wheel-wrong-platform", cause, evidence, NO_STRANGERS, "repair")
        for evidence in library_symptoms.foreign_libraries(generation, said)
    ]
    found += [
        Finding(
            "torch-library-unloadable" if "torch" in file.parts else "library-unloadable",
            "A library is cut short.",
            f"{file.name} ends before the tables that its header names.",
            REBUILD,
            "repair",
        )
        for file in library_symptoms.cut_libraries(generation, said)
    ]
    cause = "A file of a package is not whole."
    found += [
        Finding("file-corrupt", cause, evidence, REBUILD, "repair")
        for evidence in library_symptoms.cut_modules(generation, said)
    ]
    led_astray = library_symptoms.other_library_path(generation, said)
    if led_astray:
        cause = "A setting of this machine makes programs load other libraries than their own."
        remedy = "Unset LD_LIBRARY_PATH (and LD_PRELOAD) where Fettle is started, then check again."
        found.append(Finding("library-path-set", cause, led_astray, remedy))
    return found


def _suspects(generation: Generation) -> Iterator[str]:
    """What may be behind a failure that nobody knows."""
    packed = library_symptoms.not_as_packed(generation)
    if packed:
        yield f"Not as packed: {packed}"
    added = library_symptoms.added_from_outside(generation)
    if added:
        yield f"Not from the installation: {', '.join(added[:3])}{f' and {len(added) - 3} more' if len(added) > 3 else ''}."


def _rank(finding: Finding, on_disk: Sequence[Finding]) -> int:
    if finding.name not in _GENERAL:
        return 0
    return 1 if finding in on_disk else 2


def diagnose_install(error: EnvError | str) -> list[Finding]:
    """Why an installation failed, from its error or from an installer's output."""
    if isinstance(error, str):
        return [_in_install(error) or _in_words(error) or _unknown(error)]
    said = f"{error.message}\n{getattr(error, 'output', '')}"
    if error.code == "probe-failed":
        found = _from_checks([Check("probe", False, said)])
        if found:
            return found
    by_code = None if error.code in _SAY_NOTHING else _by_code(error)
    in_words = _in_install(said)
    if in_words or (by_code and error.code not in _SAY_LITTLE):
        return [in_words or by_code or _unknown(said)]
    return [_in_words(said) or by_code or _unknown(said)]


def _in_install(said: str) -> Finding | None:
    """By the words of an installer, as it wrote them and with the lines joined that it broke at a width."""
    for text in (said, re.sub(r"\s*\n[\s│]+(?![├╰\u00d7▶]|cause|caused by)", " ", said, flags=re.IGNORECASE)):
        for signature in IN_INSTALLS:
            if signature.found_in(text):
                return _finding(signature, _line_of(signature, text))
    return None


def _by_code(error: EnvError) -> Finding:
    """A failure that was named where it happened keeps its own words."""
    return Finding(_SAME.get(error.code, error.code), error.message, error.message, error.remedy)


def _in_words(said: str) -> Finding | None:
    return next(iter(_from_checks([Check("output", False, said)])), None)


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
    """The failure that a failing check's words tell of: the first row that matches is the cause."""
    if check.name in ("files", "packages"):
        return  # the disk was asked about these already
    if check.name == "disk":
        yield Finding("disk-full", "The disk is nearly full.", check.evidence, check.remedy or "")
        return
    if check.name == "interpreter":
        cause = "The Python of the environment cannot be started."
        yield Finding("interpreter-unusable", cause, f"{check.evidence}\n{check.detail}".strip(), REBUILD, "repair")
        return
    kind = check.name.split(":")[0]
    # What fails in numpy itself is not that others were built for another one.
    fitting = [
        each
        for each in IN_CHECKS
        if (not each.of or kind in each.of) and not (kind == "numpy" and each.name.startswith("numpy-"))
    ]
    # A cause may stand in the errors below the error, but never behind what only says how it shows.
    for general in (False, True):
        for said in (check.evidence, re.split(_STACK, check.detail)[0]):
            for signature in fitting:
                if (signature.name in _GENERAL) == general and signature.found_in(said):
                    yield _finding(signature, f"{check.name}: {_line_of(signature, said)}")
                    return
    missing = re.search(r"No module named '([\w.]+)'", f"{check.evidence}\n{check.detail}")
    if missing:
        cause = f"The module {missing.group(1)} is not there."
        yield Finding("module-missing", cause, f"{check.name}: {missing.group()}", REBUILD, "repair")


def cosmetic(text: str) -> list[Finding]:
    """Complaints in a log that mean nothing for training."""
    return [
        replace(_finding(signature, _line_of(signature, text)), cosmetic=True)
        for signature in COSMETIC
        if signature.found_in(text)
    ]


def _finding(signature: Signature, evidence: str) -> Finding:
    return Finding(signature.name, signature.cause, evidence, signature.remedy, signature.action)


def _line_of(signature: Signature, text: str) -> str:
    """The line that the signature was recognised by."""
    found = signature.found_in(text)
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

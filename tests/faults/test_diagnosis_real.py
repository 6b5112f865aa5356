"""A real environment is really broken in many ways, and each is named from its symptoms alone.

`DIAGNOSIS_HOME` may name a home with an installed environment, so that none is installed for this, and
`DIAGNOSIS_CASES` a Python file with a list `CASES` that is run instead of those in `cases.py` and `heldout.py`.
"""

from __future__ import annotations

import os
import runpy
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import cases
import heldout
import pytest
from broken import Broken, Quiet
from cases import Case
from heldout import ANSWERS, Answer

from env_manager.diagnosing.diagnosis import Finding, diagnose, diagnose_install
from env_manager.generations import Generation, Store
from env_manager.install import install
from env_manager.proving.integrity import examine

pytestmark = pytest.mark.real

CASES: list[Case] = [*cases.CASES, *heldout.CASES]
if "DIAGNOSIS_CASES" in os.environ:
    CASES = runpy.run_path(os.environ["DIAGNOSIS_CASES"])["CASES"]
scores: dict[str, tuple[Case | Answer, list[str], float]] = {}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A home with the real stack, installed by the product."""
    if "DIAGNOSIS_HOME" in os.environ:
        return Store(Path(os.environ["DIAGNOSIS_HOME"]))
    store = Store(tmp_path_factory.mktemp("diagnosis") / "home")
    install(store, report=Quiet(), cancelled=lambda: False)
    return store


@pytest.fixture(scope="module")
def good(store: Store) -> Generation:
    active = store.active()
    assert active is not None
    return active


@pytest.fixture
def broken(store: Store, good: Generation) -> Iterator[Broken]:
    """Beside the real generations, on the same disk, and gone afterwards."""
    folder = store.root / "cases" / "case"
    shutil.rmtree(folder.parent, ignore_errors=True)
    yield Broken.copy(good, folder)
    shutil.rmtree(folder.parent)


def test_a_healthy_environment_has_no_findings(good: Generation) -> None:
    assert diagnose(good) == []


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.id, marks=[pytest.mark.slow] if case.slow else []) for case in CASES]
)
def test_an_environment_is_diagnosed(broken: Broken, case: Case) -> None:
    """A finding has evidence and remedy, a healthy environment none; whether the name is right counts in the score."""
    case.harm(broken)
    started = time.perf_counter()
    found = broken.diagnose()
    scores[case.id] = (case, [each.name for each in found], time.perf_counter() - started)
    told(found)
    assert bool(found) == bool(case.names)


@pytest.mark.parametrize("answer", [pytest.param(answer, id=answer.id) for answer in ANSWERS])
def test_what_an_installer_said_is_diagnosed(answer: Answer) -> None:
    """The first finding has the right name, evidence and a remedy."""
    found = diagnose_install(answer.said)
    scores[answer.id] = (answer, [each.name for each in found], 0.0)
    told(found)
    assert right(answer, [each.name for each in found])


def told(found: list[Finding]) -> None:
    """Every finding says why, by what it was recognised and what to do."""
    for each in found:
        print(f"{each.name} [{each.action}]: {each.cause}\n    {each.evidence}\n    {each.remedy}")
    assert all(each.cause and each.evidence and each.remedy for each in found)


def test_at_least_95_percent_are_named_right(capsys: pytest.CaptureFixture[str]) -> None:
    """The first finding counts, since that is what is shown and acted on. Prints the table of all."""
    with capsys.disabled():
        print(f"\n\n{'':6}{'case':58} {'expected':32} {'found first':32} seconds")
        for case, names, seconds in scores.values():
            expected, first = " or ".join(case.names) or "nothing", next(iter(names), "nothing")
            print(f"{'' if right(case, names) else 'WRONG':6}{case.id:58} {expected:32} {first:32} {seconds:7.1f}")
        for title, rows in groups().items():
            if rows:
                print(f"named right, {title}: {sum(right(*row) for row in rows)} of {len(rows)}")
    harmed = [(case, names) for case, names, _ in scores.values() if case.names]
    assert sum(right(*row) for row in harmed) >= 0.95 * len(harmed)


def right(case: Case | Answer, names: list[str]) -> bool:
    return names[0] in case.names if names else not case.names


def groups() -> dict[str, list[tuple[Case | Answer, list[str]]]]:
    """What was run, by what the signatures' author knew of it."""
    others = {case.id for case in (*heldout.BROKEN, *ANSWERS)}
    rows = [(case, names) for case, names, _ in scores.values()]
    return {
        "healthy": [row for row in rows if not row[0].names],
        "seen": [row for row in rows if row[0].names and not row[0].held_out],
        "held out": [row for row in rows if row[0].names and row[0].held_out and row[0].id not in others],
        "by somebody who knew no signature": [row for row in rows if row[0].id in others],
    }


def test_the_active_environment_is_untouched(store: Store, good: Generation) -> None:
    """Every byte of it, and the pointer."""
    assert store.active_id() == good.id
    assert examine(store, good, full=True).sound

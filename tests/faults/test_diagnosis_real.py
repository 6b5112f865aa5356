"""A real environment is really broken in many ways, and each is named from its symptoms alone.

`DIAGNOSIS_HOME` may name a home with an installed environment, so that none is installed for this.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken import CASES, Broken, Case, Quiet

from env_manager.diagnosis import diagnose
from env_manager.generations import Generation, Store
from env_manager.install import install
from env_manager.integrity import examine

pytestmark = pytest.mark.real

scores: dict[str, tuple[Case, list[str]]] = {}


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
    folder = store.root / "cases" / "case"
    broken = Broken.copy(good, folder)
    yield broken
    shutil.rmtree(folder)


def test_a_healthy_environment_has_no_findings(good: Generation) -> None:
    assert diagnose(good) == []


def test_a_healthy_copy_has_no_findings_either(broken: Broken) -> None:
    """So that what is found below comes from the harm and not from the copying."""
    assert broken.diagnose() == []


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.id, marks=[pytest.mark.slow] if case.slow else []) for case in CASES]
)
def test_a_broken_environment_is_diagnosed(broken: Broken, case: Case) -> None:
    """Something is found, with evidence and remedy; whether it is the right name counts in the score."""
    case.harm(broken)
    found = broken.diagnose()
    scores[case.id] = (case, [each.name for each in found])
    for each in found:
        print(f"{each.name} [{each.action}]: {each.cause}\n    {each.evidence}\n    {each.remedy}")
    assert found
    assert all(each.cause and each.evidence and each.remedy for each in found)


def test_at_least_95_percent_are_named_right(capsys: pytest.CaptureFixture[str]) -> None:
    """The first finding counts, since that is what is shown and acted on."""
    with capsys.disabled():
        for held_out in (False, True):
            rows = [(case, names) for case, names in scores.values() if case.held_out == held_out]
            right = [case for case, names in rows if names and names[0] in case.names]
            if rows:
                print(f"\nnamed right, {'held out' if held_out else 'seen'}: {len(right)} of {len(rows)}")
            for case, names in rows:
                if case not in right:
                    print(f"  {case.id}: {names}, not {' or '.join(case.names)}")
    right_in_all = sum(bool(names) and names[0] in case.names for case, names in scores.values())
    assert right_in_all >= 0.95 * len(scores)


def test_the_active_environment_is_untouched(store: Store, good: Generation) -> None:
    """Every byte of it, and the pointer."""
    assert store.active_id() == good.id
    assert examine(store, good, full=True).sound

"""The page asks for a check or a repair where there is nothing to check or to repair."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served, serving


@pytest.fixture
def served(own_home: Path) -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.mark.parametrize("what", ["check", "repair"])
def test_without_an_environment_the_problem_names_the_click_that_mends_it(served: Served, what: str) -> None:
    answer = served.post(f"/api/environment/{what}", {})
    assert answer.status_code == 400
    assert (answer.json()["code"], answer.json()["action"]) == ("no-environment", "install")


@pytest.mark.parametrize("what", ["check", "repair"])
def test_a_generation_that_is_not_there_is_said_in_plain_words(served: Served, what: str) -> None:
    answer = served.post(f"/api/environment/{what}", {"generation": "20200101-000000-none"})
    assert answer.status_code == 404
    assert answer.json()["code"] == "generation-unknown"
    assert answer.json()["remedy"]


def test_a_refused_repair_leaves_no_operation_behind(served: Served) -> None:
    served.post("/api/environment/repair", {"whole": True})
    assert served.snapshot()["operations"] == []


def test_the_page_is_told_the_build_of_torch_and_why(served: Served) -> None:
    environment = served.snapshot()["environment"]
    assert environment["torch"]["build"]
    assert environment["torch"]["reason"].endswith(".")
    assert isinstance(environment["hardware"]["notes"], list)

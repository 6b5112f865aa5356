"""What the Environment page asks for, on a small environment that is really damaged and really repaired."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from install_bench import Bench
from served import Served, serving

from app.paths import open_home
from env_manager.proving.verify import site_packages
from trainer.operation import Operation, create

pytestmark = pytest.mark.env


@pytest.fixture
def served(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("FETTLE_HOME", str(bench.store.root))
    with serving() as served:
        yield served


def checked(served: Served, **asked: Any) -> Any:
    answer = served.post("/api/environment/check", asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_damaged_environment_is_found_and_repaired_by_two_requests(bench: Bench, served: Served) -> None:
    """The check names the damage and the click; that click's request ends with another, sound generation."""
    damaged = bench.install()
    assert checked(served)["sound"]
    (site_packages(damaged.env) / "fx_first/payload.bin").unlink()

    found = checked(served)
    assert (found["generation"], found["sound"]) == (damaged.id, False)
    assert [(each["name"], each["action"]) for each in found["findings"]] == [("environment-torn", "repair")]
    failing = [each for each in found["checks"] if not each["ok"]]
    assert failing and all(each["evidence"] and each["remedy"] for each in failing)

    started = served.post("/api/environment/repair", {"whole": True}).json()
    assert (started["kind"], started["install"]["repair"]) == ("install", True)
    ended = finished(served, started["id"])
    assert (ended["state"], ended["problem"]) == ("done", None)
    assert bench.store.active_id() == ended["install"]["generation"] != damaged.id
    assert checked(served)["sound"]
    assert not checked(served, generation=damaged.id, full=False)["sound"]


def test_a_run_that_could_not_load_its_libraries_offers_a_repair_where_nothing_is_to_go_back_to(
    bench: Bench, served: Served
) -> None:
    generation = bench.install()
    folder = open_home().runs / "run-1"
    create(folder, {"id": "run-1", "kind": "train", "title": "t", "spec": {}, "generation": generation.id})
    with Operation(folder) as operation:
        operation.emit("failed", code="environment-broken", message="m", remedy="r")
    problem = served.snapshot()["environment"]["problem"]
    assert (problem["code"], problem["action"]) == ("environment-broken", "repair")
    assert problem["remedy"].startswith("Repair")


def finished(served: Served, operation: str) -> Any:
    """The operation's record once it has ended."""
    while True:
        (found,) = [each for each in served.snapshot()["operations"] if each["id"] == operation]
        if found["state"] not in ("starting", "running"):
            return found
        time.sleep(0.2)

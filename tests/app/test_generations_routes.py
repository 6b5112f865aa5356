"""The Environment page and the command line look after generations: by route, by command, on the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.operations import Operations
from app.paths import open_home
from app.server import TOKEN_HEADER, bind, server_for
from env_manager.generations import MANIFEST, Generation, Store
from env_manager.removal import keep_policy
from env_manager.verify import RECORD_NAME, take_record


@pytest.fixture
def store(own_home: Path) -> Store:
    """Three generations; g3 is active."""
    store = Store(open_home().root)
    for number in (1, 2, 3):
        folder = store.envs / f"g{number}"
        made = Generation(folder.name, "2026-01-01T00:00:00Z", folder, {"alpha": f"{number}.0"}, serial=number)
        made.python.parent.mkdir(parents=True)
        made.python.symlink_to(sys.executable)
        (made.env / "own.bin").write_bytes(os.urandom(100_000))
        take_record(made.env, folder / RECORD_NAME)
        (folder / MANIFEST).write_text(json.dumps(made.record()))
        store.point_to(made.id, "install")
    return store


@pytest.fixture
def page(store: Store) -> Iterator[httpx.Client]:
    bound = bind()
    server = server_for(Operations(open_home()), bound)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound.socket]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    headers = {TOKEN_HEADER: bound.token}
    address = f"http://127.0.0.1:{bound.port}/api/environment"
    with httpx.Client(base_url=address, headers=headers, timeout=60, trust_env=False) as client:
        yield client
    server.should_exit = True
    thread.join()
    bound.socket.close()


def fettle(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments], capture_output=True, text=True, timeout=120, env=dict(os.environ)
    )


def said(*arguments: str) -> dict[str, object]:
    done = fettle(*arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def running(store: Store, generation: str) -> Iterator[None]:
    """A run that is alive in a generation, as far as the app can tell."""
    from trainer.operation import Operation, create

    folder = open_home().runs / "run-live"
    create(folder, {"id": "run-live", "kind": "train", "title": "t", "generation": generation, "spec": {}})
    with Operation(folder) as operation:
        operation.emit("hello", executable=sys.executable)
        yield


def test_the_page_names_pins_and_shows_it(page: httpx.Client, store: Store) -> None:
    answer = page.post("/label", json={"generation": "g1", "name": "before the update", "pinned": True})
    row = next(each for each in answer.json()["generations"] if each["id"] == "g1")
    assert (row["name"], row["pinned"]) == ("before the update", True)
    again = page.post("/label", json={"generation": "g1", "note": "why"}).json()["generations"][0]
    assert (again["name"], again["note"], again["pinned"]) == ("before the update", "why", True)
    assert store.get("g1").name == "before the update"


def test_the_page_compares_two(page: httpx.Client) -> None:
    found = page.get("/difference", params={"before": "g1", "after": "g2"}).json()
    assert found["changed"] == [{"name": "alpha", "before": "1.0", "after": "2.0"}]
    assert found["only_before_bytes"] >= 100_000
    assert page.get("/difference", params={"before": "../g1", "after": "g2"}).status_code == 404


def test_the_page_previews_and_deletes(page: httpx.Client, store: Store) -> None:
    told = page.post("/removal/preview", json={"generations": ["g1"]}).json()
    assert told["freed_bytes"] >= 100_000 and (store.envs / "g1").exists()
    assert page.post("/removal", json={"generations": ["g1"]}).json() == told
    assert not (store.envs / "g1").exists()


@pytest.mark.parametrize("route", ["/removal", "/removal/preview"])
def test_the_page_is_refused_what_must_stay(page: httpx.Client, store: Store, route: str) -> None:
    store.label("g1", pinned=True)
    for generation, code in (("g3", "generation-active"), ("g1", "generation-pinned")):
        answer = page.post(route, json={"generations": [generation]})
        assert (answer.status_code, answer.json()["code"]) == (409, code)
    for _ in running(store, "g2"):
        answer = page.post(route, json={"generations": ["g2"]})
        assert (answer.status_code, answer.json()["code"]) == (409, "generation-in-use")
    assert len(store.list()) == 3


def test_the_page_sets_how_many_are_kept(page: httpx.Client, store: Store) -> None:
    assert page.post("/keep", json={"keep": 2}).json()["keep"] == 2
    assert keep_policy(store) == 2
    assert page.post("/keep", json={"keep": 0}).status_code == 422
    assert page.post("/keep", json={"keep": None}).json()["keep"] is None


def test_the_commands_do_the_same(store: Store) -> None:
    assert fettle("env", "name", "g1", "the first").returncode == 0
    assert store.get("g1").name == "the first"
    assert said("env", "diff", "g1")["after"] == "g3"
    told = said("env", "delete", "g1", "--preview")
    assert told["preview"] is True and (store.envs / "g1").exists()
    assert fettle("env", "pin", "g1").returncode == 0
    refused = fettle("env", "delete", "g1")
    assert refused.returncode == 1 and "[generation-pinned]" in refused.stderr and "Traceback" not in refused.stderr
    assert fettle("env", "unpin", "g1").returncode == 0
    assert said("env", "keep", "1", "--preview")["generations"] == ["g1"]
    assert said("env", "keep", "1")["generations"] == ["g1"]
    assert [each.id for each in store.list()] == ["g2", "g3"] and keep_policy(store) == 1
    assert fettle("env", "keep", "all").returncode == 0 and keep_policy(store) is None


def test_a_live_run_keeps_its_generation_for_the_commands(store: Store) -> None:
    store.rollback("g1")
    store.label("g3", name="in use")
    for _ in running(store, "g3"):
        refused = fettle("env", "delete", "g3")
        assert refused.returncode == 1 and "[generation-in-use]" in refused.stderr
        assert said("env", "keep", "1", "--preview")["generations"] == ["g2"]


def test_a_foreign_or_broken_file_is_refused_before_anything_starts(store: Store, tmp_path: Path) -> None:
    given = tmp_path / "given.txt"
    given.write_text("torch>=2\n--index-url http://evil.example\n")
    refused = fettle("env", "import", str(given))
    assert refused.returncode == 1 and "[manifest-invalid]" in refused.stderr
    assert not any(open_home().installs.iterdir())


def test_adopting_shows_what_it_would_take_and_refuses_what_is_no_environment(tmp_path: Path, store: Store) -> None:
    refused = fettle("env", "adopt", str(tmp_path), "--preview")
    assert refused.returncode == 1 and "[python-unusable]" in refused.stderr
    refused = fettle("env", "adopt", sys.executable, "--preview", "--json")
    # The app's own environment has pydantic and filelock, which training lists too.
    assert refused.returncode == 0 and set(json.loads(refused.stdout)["pinned"]) == {"filelock", "pydantic"}


def test_an_interpreter_that_vanished_stops_a_run_with_one_message(store: Store) -> None:
    store.active().python.unlink()
    done = fettle("env", "status")
    assert done.returncode == 1 and "[interpreter-missing]" in done.stdout

"""The Environment page and the command line look after generations: by route, by command, on the disk."""

from __future__ import annotations

import hashlib
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

from app.environment import environment_view
from app.operations import Operations
from app.paths import open_home
from app.server import TOKEN_HEADER, bind, server_for
from env_manager.generations import MANIFEST, Generation, Store
from env_manager.keeping.removal import keep_policy
from env_manager.proving.damage import note_damage
from env_manager.proving.verify import RECORD_NAME, take_record


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


def test_what_keeping_fewer_would_delete_is_told_first_and_then_done(page: httpx.Client, store: Store) -> None:
    told = page.post("/keep/preview", json={"keep": 1}).json()
    assert told["generations"] == ["g1"] and told["freed_bytes"] >= 100_000
    assert len(store.list()) == 3 and keep_policy(store) is None
    left = page.post("/keep", json={"keep": 1}).json()
    assert [each["id"] for each in left["generations"]] == ["g2", "g3"]
    assert page.post("/keep/preview", json={"keep": None}).json()["generations"] == []


def test_the_page_is_told_what_happened_and_where_a_rollback_leads(page: httpx.Client, store: Store) -> None:
    note_damage(store.get("g2").folder, "alpha.so has 3 bytes instead of 9.")
    told = page.post("/rollback", json={"generation": None}).json()
    assert (told["active"], told["previous"]) == ("g1", None)
    assert [(row["action"], row["generation"], row["before"]) for row in told["history"]][:2] == [
        ("rollback", "g1", "g3"),
        ("install", "g3", "g2"),
    ]
    assert told["history"][0]["time"] >= told["history"][1]["time"] > 1.7e9
    told = page.post("/rollback", json={"generation": "g3"}).json()
    damaged = next(each for each in told["generations"] if each["id"] == "g2")
    assert (damaged["damage"], told["previous"]) == ("alpha.so has 3 bytes instead of 9.", "g1")
    assert page.post("/removal", json={"generations": ["g2"]}).status_code == 200
    assert told_by(store)[0] == ("delete", "g2")


def test_a_generation_tells_what_proved_it_and_what_failed(page: httpx.Client, store: Store) -> None:
    manifest = store.get("g3").folder / MANIFEST
    record = json.loads(manifest.read_text())
    record["checks"] = [{"name": "torch", "ok": True, "evidence": "torch multiplies on cpu", "seconds": 0.7}]
    record["steps"] = [{"id": "x", "title": "Extras", "state": "failed", "reason": "It has no wheel."}]
    record["interpreter"] = {"version": "3.11", "reason": "It is on this machine.", "path": "/p"}
    manifest.write_text(json.dumps(record))
    shown = page.post("/label", json={"generation": "g3", "name": "n"}).json()["generations"][-1]
    assert shown["checks"] == [{"name": "torch", "ok": True, "evidence": "torch multiplies on cpu", "remedy": None}]
    assert shown["failed_steps"] == [{"title": "Extras", "reason": "It has no wheel."}]
    assert shown["python"] == "3.11 · It is on this machine."


def test_the_page_downloads_what_the_command_exports(page: httpx.Client, store: Store) -> None:
    generation = store.get("g1")
    lock = "alpha==1.0 --hash=sha256:" + "0" * 64 + "\n"
    (generation.folder / "requirements.lock").write_text(lock)
    record = json.loads((generation.folder / MANIFEST).read_text())
    record["lock_sha256"] = hashlib.sha256(lock.encode()).hexdigest()
    (generation.folder / MANIFEST).write_text(json.dumps(record))
    exported = page.get("/export", params={"generation": "g1"}).json()
    assert exported["file_name"] == "generation.fettle.json"
    assert exported["text"] == fettle("env", "export", "g1").stdout
    assert page.get("/export", params={"generation": "g1", "format": "exe"}).status_code == 422
    assert page.get("/export", params={"generation": "../g1"}).status_code == 404


def test_the_disk_is_told_by_part_with_what_can_go(page: httpx.Client, store: Store) -> None:
    """Of three environments the active and the pinned stay; a wheel in the cache that nobody links to can go too."""
    store.label("g1", pinned=True)
    lost = store.cache / "archive-v0" / "lost"
    lost.mkdir(parents=True)
    (lost / "wheel.bin").write_bytes(os.urandom(50_000))
    told = page.get("/disk").json()
    parts = {part["name"]: part for part in told["parts"]}
    assert parts["envs"]["bytes"] >= 300_000 and told["free_bytes"] > 0
    assert 100_000 <= parts["envs"]["freeable_bytes"] < 200_000
    assert (
        50_000
        <= parts["cache"]["freeable_bytes"]
        == parts["cache"]["bytes"] - room(store.cache, store.cache.parent, store.root / "cache" / "tokens")
    )
    cleared = page.post("/cache/clear", json={}).json()
    assert next(part for part in cleared["parts"] if part["name"] == "cache")["freeable_bytes"] == 0
    assert not lost.exists() and len(store.list()) == 3


def test_the_cache_is_cleared_by_a_command_too(store: Store) -> None:
    lost = store.cache / "archive-v0" / "lost"
    lost.mkdir(parents=True)
    (lost / "wheel.bin").write_bytes(os.urandom(2_000_000))
    tokens = store.root / "cache" / "tokens"
    for entry in ("entry", ".being-written.part"):
        (tokens / entry).mkdir(parents=True)
        (tokens / entry / "ids.int32").write_bytes(os.urandom(1_000_000))
    told = "2 MB of packages and 1 MB of tokens {} free.\n"
    assert fettle("home", "clear-cache", "--preview").stdout == told.format("would be")
    assert lost.exists()
    assert fettle("home", "clear-cache").stdout == told.format("are")
    assert not lost.exists() and not list(store.cache.glob(".*"))
    assert [entry.name for entry in tokens.iterdir()] == [".being-written.part"]


def test_a_plan_can_be_asked_for_before_anything_is_installed(page: httpx.Client) -> None:
    told = page.get("/plan", params={"accelerator": "cpu"}).json()
    assert (told["torch"]["build"], told["torch"]["reason"]) == ("cpu", "You chose cpu.")
    assert any("torch" in requirement for step in told["plan"] for requirement in step["packages"])
    refused = page.get("/plan", params={"accelerator": "cu1"})
    assert (refused.status_code, refused.json()["code"]) == (400, "accelerator-unknown")
    assert page.get("/plan", params={"gpu": 7}).json()["code"] == "gpu-unknown"


def test_a_check_ends_when_the_page_leaves(page: httpx.Client, store: Store, tmp_path: Path) -> None:
    """The interpreter hangs in its first probe; nobody waits for it any more, so it is ended."""
    generation = store.get("g3")
    generation.python.unlink()
    generation.python.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    generation.python.chmod(0o755)
    take_record(generation.env, generation.folder / RECORD_NAME)
    record = json.loads((generation.folder / MANIFEST).read_text()) | {"probes": ["numpy"]}
    (generation.folder / MANIFEST).write_text(json.dumps(record))
    with pytest.raises(httpx.ReadTimeout):
        page.post("/check", json={"full": False}, timeout=3)
    hung = int((tmp_path / "pid").read_text())
    while alive(hung):
        time.sleep(0.05)
    assert store.get("g3").damage == ""


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def room(*folders: Path) -> int:
    """What empty folders take on the disk by themselves."""
    return sum(folder.stat().st_blocks * 512 for folder in (*folders, folders[0] / "archive-v0"))


def told_by(store: Store) -> list[tuple[str, str]]:
    view = environment_view(Operations(open_home()))
    return [(row.action, row.generation) for row in view.history]


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

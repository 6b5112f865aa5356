"""The store of generations: pointer, history, rollback, and what happens behind its back."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest
from generation_bench import code, make

from env_manager.errors import EnvError
from env_manager.generations import MANIFEST, Store
from env_manager.proving import verify


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    for number in (1, 2, 3):
        make(store, f"g{number}", f"2026-01-0{number}T00:00:00Z")
        store.point_to(f"g{number}", "install")
    return store


def test_an_empty_home_has_nothing_and_says_so(tmp_path):
    """No folder is made by looking."""
    store = Store(tmp_path / "none")
    assert store.active() is None
    assert store.list() == ()
    assert store.status().as_json()["active"] is None
    assert store.clean() == ()
    assert code(store.rollback) == "nothing-to-roll-back"
    assert not store.root.exists()


def test_rollback_goes_back_one_at_a_time(store):
    """Twice is two back, not to and fro; then there is nothing left."""
    assert store.rollback().id == "g2"
    assert store.rollback().id == "g1"
    assert code(store.rollback) == "nothing-to-roll-back"
    assert store.active().id == "g1"


def test_rollback_can_name_any_generation_also_a_newer_one(store):
    """After going back the newer one can be taken again."""
    assert store.rollback("g1").id == "g1"
    assert store.rollback("g3").id == "g3"
    assert store.active().id == "g3"


def test_a_deleted_generation_is_passed_over(store):
    """Going back from g3 leads to g1 when g2 was deleted."""
    shutil.rmtree(store.envs / "g2")
    assert store.previous().id == "g1"


def test_the_history_is_a_line_a_switch(store):
    """Who followed whom can be read afterwards."""
    store.rollback()
    rows = list(store.history_rows())
    assert [(row["action"], row["id"], row["before"]) for row in rows] == [
        ("install", "g1", None),
        ("install", "g2", "g1"),
        ("install", "g3", "g2"),
        ("rollback", "g2", "g3"),
    ]


def test_a_history_line_cut_off_by_a_crash_spoils_nothing(store):
    """The rest of the history still counts, and the next line starts on its own line."""
    with store.history.open("a") as out:
        out.write('{"action": "ins')
    assert store.rollback().id == "g2"
    assert list(store.history_rows())[-1]["action"] == "rollback"


@pytest.mark.parametrize("harm", ["missing", "truncated", "no-interpreter", "no-record"])
def test_a_damaged_generation_is_not_activated(store, harm):
    """Whatever is missing or shorter is found before the switch."""
    target = store.get("g2")
    if harm == "missing":
        (target.env / "data.txt").unlink()
    elif harm == "truncated":
        (target.env / "data.txt").write_text("c")
    elif harm == "no-interpreter":
        target.python.unlink()
    else:
        (target.folder / verify.RECORD_NAME).unlink()
    assert code(store.rollback, "g2") == "generation-damaged"
    assert code(store.activate, "g2") == "generation-damaged"
    assert store.active().id == "g3"


def test_a_rollback_passes_over_what_is_damaged_and_says_so(store):
    """It leads to the newest that is whole; nobody has looked at the damaged one before."""
    (store.get("g2").env / "data.txt").write_text("c")
    assert store.previous().id == "g2"
    told: list[str] = []
    assert store.rollback(tell=told.append).id == "g1"
    assert len(told) == 1 and "g2" in told[0] and "data.txt" in told[0]
    assert "data.txt" in store.get("g2").damage


def test_what_was_once_found_damaged_is_no_longer_where_a_rollback_leads(store):
    (store.get("g2").env / "data.txt").write_text("c")
    assert code(store.activate, "g2") == "generation-damaged"
    status = store.status()
    assert (status.previous.id, [each.id for each in status.passed_over]) == ("g1", ["g2"])


def test_where_all_earlier_ones_are_damaged_the_failure_names_each(store):
    for id in ("g1", "g2"):
        (store.get(id).env / "data.txt").unlink()
    with pytest.raises(EnvError) as caught:
        store.rollback()
    assert caught.value.code == "nothing-to-roll-back"
    assert "g1" in caught.value.message and "g2" in caught.value.message
    assert store.active().id == "g3" and store.previous() is None


def test_a_missing_interpreter_is_passed_over_but_not_held_against_a_generation(store):
    """A system's upgrade may bring it back; the files of the environment are whole."""
    interpreter = store.get("g2").python
    interpreter.rename(interpreter.with_name("away"))
    assert store.rollback().id == "g1"
    assert store.get("g2").damage == ""


@pytest.mark.parametrize("id", ["g9", "../g1", ".build-x", "", "/etc", "g1/env"])
def test_only_the_name_of_a_generation_is_accepted(store, id):
    """An id comes from outside and must not lead out of the folder."""
    assert code(store.get, id) == "generation-unknown"


def test_a_pointer_to_a_removed_generation_is_a_problem_with_a_remedy(store):
    """The folder was deleted behind our back: said plainly, and rollback still works."""
    shutil.rmtree(store.envs / "g3")
    assert code(store.active) == "active-missing"
    status = store.status()
    assert status.active is None
    assert [problem.code for problem in status.problems] == ["active-missing"]
    assert store.rollback().id == "g2"


def test_a_newer_format_is_refused_and_the_others_still_work(store):
    """A generation that a newer version made is not guessed at."""
    manifest = store.envs / "g3" / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    assert code(store.get, "g3") == "generation-newer"
    assert [generation.id for generation in store.list()] == ["g1", "g2"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": "x"}'])
def test_a_broken_record_is_refused(store, text):
    """A hand-edited or empty generation.json is named, not crashed on."""
    (store.envs / "g2" / MANIFEST).write_text(text)
    assert code(store.get, "g2") == "generation-damaged"
    assert len(store.status().problems) >= 1


def test_a_broken_pointer_is_a_problem_with_a_remedy(store):
    """A hand-edited pointer file."""
    store.pointer.write_text("../../somewhere\n")
    assert code(store.active) == "active-missing"
    assert store.rollback("g1").id == "g1"


def test_cleaning_removes_only_leftovers(store):
    """Build folders of dead installers and half-unpacked wheels go; everything else stays."""
    (store.envs / ".build-x/env").mkdir(parents=True)
    (store.cache / ".tmpabc").mkdir(parents=True)
    (store.cache / "archive-v0").mkdir()
    assert store.clean() == (".build-x",)
    assert not (store.cache / ".tmpabc").exists()
    assert (store.cache / "archive-v0").exists()
    assert len(store.list()) == 3


def test_cleaning_touches_nothing_while_an_installer_lives(store):
    """Its build folder is its own."""
    (store.envs / ".build-x").mkdir()
    with store.install_lock():
        assert Store(store.root).clean() == ()
        assert (store.envs / ".build-x").exists()
        assert Store(store.root).status().installing
    assert not store.installing()


def test_a_home_that_was_moved_still_works(store, tmp_path):
    """No generation knows where it lies."""
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    shutil.move(tmp_path, moved)
    again = Store(moved)
    assert again.active().id == "g3"
    assert again.active().python.is_relative_to(moved)
    assert again.rollback().id == "g2"


def test_generations_are_listed_oldest_first(store):
    """By the time they were made."""
    assert [generation.id for generation in store.list()] == ["g1", "g2", "g3"]
    assert store.status().as_json()["generations"][0]["python"].endswith(("python", "python.exe"))


def test_a_kill_between_note_and_switch_changes_no_way_back(store, monkeypatch):
    """The note says what was meant; that it never came to be is seen from where the next switch began."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for id, action in (("g1", "activate"), ("g2", "rollback"), ("g1", "install")):
        with monkeypatch.context() as patch:
            patch.setattr("env_manager.durable.replace_text", killed)
            with pytest.raises(KeyboardInterrupt):
                store.point_to(id, action)
        assert (store.active_id(), store.previous().id) == ("g3", "g2")
    store.point_to("g1", "activate")
    assert store.previous().id == "g3"


def test_a_switch_that_cannot_be_noted_is_not_made(store):
    """As on a full disk: the failure is told and the old one stays active."""
    store.history.unlink()
    store.history.mkdir()
    assert code(store.rollback, "g1") == "in-the-way"
    assert store.active_id() == "g3"


def test_what_a_killed_writer_left_is_removed_and_what_is_being_written_is_not(store, monkeypatch):
    """The lock on a temporary file dies with its writer."""
    left = [store.envs / ".active-abcdefgh", store.envs / "g2" / ".label.json-abcdefgh"]
    for file in left:
        file.write_text("half")
    replace, seen = os.replace, []

    def while_written(temporary: str, file: Path) -> None:
        store.clean()
        seen.append(Path(temporary).exists())
        replace(temporary, file)

    monkeypatch.setattr("os.replace", while_written)
    store.label("g1", name="kept")
    assert set(seen) == {True} and store.get("g1").name == "kept"
    assert not any(file.exists() for file in left)


def test_what_uv_unpacks_at_this_moment_is_left_alone(store):
    """Each uv holds a shared lock on the cache while it works; once it is gone its scratch goes too."""
    store.cache.mkdir(parents=True)
    scratch = store.cache / ".tmpAbCdEf"
    scratch.mkdir()
    with (store.cache / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        store.clean()
        assert scratch.is_dir()
    store.clean()
    assert not scratch.exists()

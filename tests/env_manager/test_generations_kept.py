"""Generations over time: names, differences, deletion, keep policy, order, layout, and hands that edit files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from generation_bench import code, make

from env_manager.generations import MANIFEST, Generation, Store
from env_manager.keeping import removal
from env_manager.keeping.diff import diff
from env_manager.keeping.labels import FILE as LABEL
from env_manager.keeping.store_format import FILE as FORMAT_FILE
from env_manager.keeping.store_format import FORMAT

PAYLOAD = 300_000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Five generations; g5 is active, g4 the one before; all share one file with the cache."""
    store = Store(tmp_path)
    shared = store.cache / "archive-v0" / "x" / "shared.bin"
    shared.parent.mkdir(parents=True)
    shared.write_bytes(os.urandom(PAYLOAD))
    for number in range(1, 6):
        generation = make(store, f"g{number}", serial=number, own=PAYLOAD)
        os.link(shared, generation.env / "shared.bin")
        store.point_to(generation.id, "install")
    return store


def disk_bytes(folder: Path) -> int:
    """What a folder takes, as the system counts it; an inode once, folders too."""
    seen = {}
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            stat = os.lstat(os.path.join(parent, name))
            seen[stat.st_ino] = stat.st_blocks * 512
    return sum(seen.values())


def test_a_name_a_note_and_a_pin_stay_with_the_generation(store):
    """They survive a new look at the disk and leave the record of the generation as it was."""
    before = (store.envs / "g2" / MANIFEST).read_bytes()
    store.label("g2", name="  the good one ", note="first\nsecond")
    store.label("g2", pinned=True)
    found = Store(store.root).get("g2")
    assert (found.name, found.note, found.pinned) == ("the good one", "first\nsecond", True)
    assert (store.envs / "g2" / MANIFEST).read_bytes() == before
    assert store.label("g2", name="").name is None


@pytest.mark.parametrize("name", ["x" * 81, "two\nlines", "a\x1b[31mcolour"])
def test_a_name_that_would_break_a_list_is_refused(store, name):
    """Too long, of two lines, with control characters."""
    assert code(store.label, "g2", name=name) == "label-invalid"
    assert store.get("g2").name is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": 1}', '{"pinned": "no"}', '{"other": 1}'])
def test_a_label_that_was_edited_into_nonsense_protects_its_generation(store, text):
    """It lists, without a name, as pinned; naming it again mends it."""
    (store.envs / "g1" / LABEL).write_text(text)
    assert store.get("g1").pinned and store.get("g1").name is None
    assert code(removal.remove, store, ["g1"]) == "generation-pinned"
    assert store.label("g1", name="mended", pinned=False).name == "mended"


def test_a_difference_names_packages_and_counts_what_only_one_uses(store):
    """Added, removed, changed; the file shared by hard link belongs to both."""
    make(store, "h1", packages={"alpha": "1.0", "beta": "1.0", "gone": "3"}, own=PAYLOAD)
    make(store, "h2", packages={"alpha": "1.0", "beta": "2.0", "new": "4"}, own=2 * PAYLOAD)
    os.link(store.envs / "g1/env/shared.bin", store.envs / "h1/env/s")
    os.link(store.envs / "g1/env/shared.bin", store.envs / "h2/env/s")
    found = diff(store.get("h1"), store.get("h2"))
    assert (found.added, found.removed) == ({"new": "4"}, {"gone": "3"})
    assert [(each.name, each.before, each.after) for each in found.changed] == [("beta", "1.0", "2.0")]
    assert PAYLOAD <= found.only_before_bytes < 1.2 * PAYLOAD
    assert 2 * PAYLOAD <= found.only_after_bytes < 2.2 * PAYLOAD
    assert PAYLOAD <= found.shared_bytes < 1.1 * PAYLOAD


def test_a_generation_differs_from_itself_in_nothing(store):
    """Not even a byte."""
    found = diff(store.get("g1"), store.get("g1"))
    assert not (found.added or found.removed or found.changed or found.only_before_bytes or found.only_after_bytes)


@pytest.mark.parametrize("with_cache", [False, True])
@pytest.mark.parametrize("ids", [["g1"], ["g1", "g2", "g3"]])
def test_a_preview_of_a_deletion_is_what_the_disk_then_has_more(store, ids, with_cache):
    """To the byte, the links of cache and other generations counted."""
    store.clean()  # brings the layout up to date, which writes a file
    told = removal.preview(store, ids)
    before = disk_bytes(store.root) - store.history.stat().st_blocks * 512
    removal.remove(store, ids, with_cache=with_cache)
    freed = before - (disk_bytes(store.root) - store.history.stat().st_blocks * 512)
    assert told.freed_bytes + (told.cache_bytes if with_cache else 0) == freed
    assert told.freed_bytes >= len(ids) * PAYLOAD
    assert told.kept_bytes >= PAYLOAD
    assert [each.id for each in store.list()] == [f"g{n}" for n in range(1, 6) if f"g{n}" not in ids]


def test_a_large_wheel_goes_with_the_last_generation_that_needs_it(store):
    """It is counted beforehand; one that another lock names stays, and so does one that is still on its way."""
    alone, shared, coming = ("a" * 64, "b" * 64, "c" * 64)
    wheels = store.root / "wheels"
    for sha256 in (alone, shared):
        (wheels / sha256).mkdir(parents=True)
        (wheels / sha256 / "x-1.0-py3-none-any.whl").write_bytes(os.urandom(PAYLOAD))
    (wheels / f"{coming}.part").write_bytes(b"half")
    (store.envs / "g1" / "requirements.lock").write_text(f"x==1.0 --hash=sha256:{alone} --hash=sha256:{shared}")
    (store.envs / "g2" / "requirements.lock").write_text(f"x==1.0 --hash=sha256:{shared}")
    store.clean()
    told = removal.preview(store, ["g1"])
    before = disk_bytes(store.root) - store.history.stat().st_blocks * 512
    removal.remove(store, ["g1"])
    assert told.freed_bytes == before - (disk_bytes(store.root) - store.history.stat().st_blocks * 512) >= 2 * PAYLOAD
    assert sorted(each.name for each in wheels.iterdir()) == [shared, f"{coming}.part"]


def test_the_cache_gives_back_what_no_other_generation_uses(store):
    """A package of the deleted generation alone goes from the cache too, a shared one stays."""
    alone = store.cache / "archive-v0" / "alone" / "alone.bin"
    alone.parent.mkdir()
    alone.write_bytes(os.urandom(PAYLOAD))
    os.link(alone, store.envs / "g1/env/alone.bin")
    assert removal.preview(store, ["g1"]).cache_bytes >= PAYLOAD
    removal.remove(store, ["g1"], with_cache=True)
    assert not alone.exists()
    assert (store.cache / "archive-v0/x/shared.bin").exists()


def test_what_is_active_used_or_pinned_is_not_deleted(store):
    """Each refusal has its own code, and nothing is gone afterwards."""
    store.label("g2", pinned=True)
    assert code(removal.remove, store, ["g5"]) == "generation-active"
    assert code(removal.remove, store, ["g1", "g2"]) == "generation-pinned"
    assert code(removal.remove, store, ["g3"], in_use=["g3"]) == "generation-in-use"
    assert code(removal.remove, store, ["nowhere"]) == "generation-unknown"
    assert code(removal.remove, store, ["../g1"]) == "generation-unknown"
    assert len(store.list()) == 5


def test_a_program_that_runs_in_a_generation_keeps_it(store):
    """Whoever started it; where the system does not list programs, only the app's own runs are known."""
    if sys.platform != "linux":
        assert removal.processes_in(store.envs / "g1") == ()
        return
    target = store.get("g1").env / "sleeper"
    shutil.copy("/bin/sleep", target)
    child = subprocess.Popen([str(target), "60"])
    try:
        deadline = time.monotonic() + 30
        while not removal.processes_in(store.envs / "g1") and time.monotonic() < deadline:
            time.sleep(0.02)
        assert code(removal.remove, store, ["g1"]) == "generation-in-use"
        assert "g1" not in removal.superfluous(store, 1)
    finally:
        child.kill()
        child.wait()
    removal.remove(store, ["g1"])


def test_nothing_is_deleted_while_an_installation_runs(store):
    """It may be linking files out of the generation."""
    with store.install_lock():
        assert code(removal.remove, Store(store.root), ["g1"]) == "install-running"


def test_a_deletion_cut_off_in_the_middle_is_finished_at_the_next_start(store):
    """After the rename the generation is gone for everybody; its files go with the leftovers."""
    (store.envs / "g1").rename(store.envs / ".removed-g1")
    assert [each.id for each in store.list()] == ["g2", "g3", "g4", "g5"]
    assert store.clean() == (".removed-g1",)


def test_rolling_back_passes_over_what_was_deleted(store):
    """The history tells of the deletion and nothing leads there."""
    removal.remove(store, ["g4"])
    assert store.previous().id == "g3"
    assert list(store.history_rows())[-1]["removed"] == "g4"


@pytest.mark.parametrize(("keep", "gone"), [(5, ()), (3, ("g1",)), (1, ("g1", "g3"))])
def test_a_keep_policy_spares_the_newest_the_pinned_the_active_and_the_one_before(store, keep, gone):
    """g2 is pinned, g5 active, g4 the way back."""
    store.label("g2", pinned=True)
    assert removal.superfluous(store, keep) == gone
    assert removal.prune(store, keep).generations == gone
    assert {each.id for each in store.list()} == {f"g{n}" for n in range(1, 6)} - set(gone)


def test_a_keep_policy_is_remembered_and_a_broken_one_keeps_everything(store):
    """Deleting is never the answer to a file that cannot be read."""
    assert removal.keep_policy(store) is None
    removal.set_keep_policy(store, 2)
    assert removal.keep_policy(Store(store.root)) == 2
    assert code(removal.set_keep_policy, store, 0) == "keep-invalid"
    for text in ("", "[]", '{"keep": -1}', '{"keep": true}', '{"keep": "2"}'):
        (store.envs / removal.POLICY).write_text(text)
        assert removal.keep_policy(store) is None


def test_a_clock_set_back_does_not_change_the_order(tmp_path):
    """The later generation stays the later one, whatever its date says."""
    store = Store(tmp_path)
    make(store, "20300101-000000-aaaa", "2030-01-01T00:00:00Z", serial=1)
    make(store, "20200101-000000-bbbb", "2020-01-01T00:00:00Z", serial=2)
    assert [each.serial for each in store.list()] == [1, 2]
    assert store.next_serial() == 3
    for each in store.list():
        store.point_to(each.id, "install")
    assert store.rollback().serial == 1


def test_a_newer_layout_is_refused_everywhere_and_nothing_is_changed(store):
    """Reading, switching, deleting and installing say the same; no file is touched."""
    (store.envs / FORMAT_FILE).write_text(f"{FORMAT + 1}\n")
    before = sorted((str(path), path.lstat().st_mtime_ns) for path in store.envs.rglob("*"))
    assert code(store.active) == "store-newer"
    assert code(store.rollback) == "store-newer"
    assert code(store.point_to, "g1", "rollback") == "store-newer"
    assert code(store.label, "g1", name="x") == "store-newer"
    assert code(removal.remove, store, ["g1"]) == "store-newer"
    assert [each.code for each in store.status().problems] == ["store-newer"]
    after = [each for each in store.envs.rglob("*") if each.name != "install.lock"]
    assert [(str(path), path.lstat().st_mtime_ns) for path in sorted(after, key=str)] == [
        row for row in before if not row[0].endswith("install.lock")
    ]


def test_a_hand_edited_layout_number_is_named(store):
    """It is not guessed at."""
    (store.envs / FORMAT_FILE).write_text("one")
    assert code(store.active) == "store-damaged"
    (store.envs / FORMAT_FILE).write_bytes(b"\xff\xfe")
    assert code(store.get, "g1") == "store-damaged"


def test_an_older_layout_is_brought_up_to_date_with_nothing_lost(tmp_path):
    """Layout 0 kept names in generation.json and had no number; a kill in the middle is harmless."""
    store = Store(tmp_path)
    for number in (1, 2):
        generation = make(store, f"g{number}", f"2026-01-0{number}T00:00:00Z")
        record = generation.record() | {"name": f"name {number}"}
        del record["serial"], record["proof"], record["proved_by"]
        (generation.folder / MANIFEST).write_text(json.dumps(record))
        store.point_to(generation.id, "install")
    assert not (store.envs / FORMAT_FILE).exists()
    (store.envs / "g1" / LABEL).write_text('{"name": "name 1"}')  # as if a kill came after the first of two
    assert store.clean() == ()
    assert (store.envs / FORMAT_FILE).read_text() == f"{FORMAT}\n"
    assert [each.name for each in store.list()] == ["name 1", "name 2"]
    assert store.active().id == "g2" and store.previous().id == "g1"
    store.label("g1", name="renamed")
    store.clean()
    assert store.get("g1").name == "renamed"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"g9\n", b"../../x", b"a b\nc", b"g1/env"])
def test_a_pointer_edited_into_anything_is_one_plain_message(store, content):
    """No traceback, and any generation can be made active again."""
    store.pointer.write_bytes(content)
    assert code(store.active) == "active-missing"
    assert [each.code for each in store.status().problems] == ["active-missing"]
    assert store.rollback("g1").id == "g1"
    assert store.active().id == "g1"


def test_an_interpreter_that_vanished_is_named_and_the_way_back_stays(store):
    """As after an upgrade of the system that removed the Python below."""
    store.active().python.unlink()
    status = store.status()
    assert status.active.id == "g5"
    assert [each.code for each in status.problems] == ["interpreter-missing"]
    assert code(status.active.require_interpreter) == "interpreter-missing"
    assert store.rollback().id == "g4"


@pytest.mark.parametrize(
    "edit", [{"packages": []}, {"packages": {"a": 1}}, {"id": "g2"}, {"hardware": "x"}, {"serial": "x"}, {"steps": 5}]
)
def test_a_record_with_a_field_of_another_kind_is_damaged_not_a_crash(store, edit):
    """Every later use could rely on it."""
    file = store.envs / "g1" / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | edit))
    assert code(store.get, "g1") == "generation-damaged"
    assert len(store.list()) == 4


def test_a_home_that_cannot_be_written_is_still_listed(store):
    """A read-only folder shows what is there; naming and deleting say why they cannot."""
    if os.geteuid() == 0:
        listed = Store(store.root).list()  # root writes everywhere: only the reading half can be seen
    else:
        os.chmod(store.envs, 0o500)
        try:
            listed = Store(store.root).list()
            assert code(removal.remove, store, ["g1"]) == "no-permission"
        finally:
            os.chmod(store.envs, 0o700)
    assert len(listed) == 5 and isinstance(listed[0], Generation)

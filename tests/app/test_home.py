"""The home folder: shown by part, moved whole, removed on request, and never lost on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from app import home as homes
from app.errors import AppError
from app.operations import Operations
from app.paths import LOCK, default_root, location_file, note_location, open_home
from env_manager.errors import EnvError
from env_manager.generations import MANIFEST, Generation, Store
from env_manager.proving.preflight import check_files
from env_manager.proving.verify import RECORD_NAME, take_record
from trainer.operation import create

PAYLOAD = 200_000
ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home where the system would put it, with a fetched interpreter and a generation on it."""
    monkeypatch.delenv("FETTLE_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = open_home().root
    fetched = root / "python" / "cpython-3.11" / "bin" / "python3.11"
    fetched.parent.mkdir(parents=True)
    fetched.symlink_to(sys.executable)
    (root / "python" / "cpython").symlink_to(root / "python" / "cpython-3.11")
    store = Store(root)
    generation = Generation("g1", "2026-01-01T00:00:00Z", store.envs / "g1", {"alpha": "1.0"}, serial=1)
    generation.python.parent.mkdir(parents=True)
    generation.python.symlink_to(fetched)
    (generation.env / "pyvenv.cfg").write_text(f"home = {fetched.parent}\nversion_info = 3.11\nrelocatable = true\n")
    shared = store.cache / "archive-v0" / "x" / "shared.bin"
    shared.parent.mkdir(parents=True)
    shared.write_bytes(os.urandom(PAYLOAD))
    os.link(shared, generation.env / "shared.bin")
    take_record(generation.env, generation.folder / RECORD_NAME)
    (generation.folder / MANIFEST).write_text(json.dumps(generation.record()))
    store.point_to("g1", "install")
    (root / "runs" / "mine").mkdir()
    (root / "runs" / "mine" / "adapter.bin").write_bytes(b"adapter")
    return root


def code(call, *arguments, **options) -> str:
    with pytest.raises((AppError, EnvError)) as caught:
        call(*arguments, **options)
    assert caught.value.message and caught.value.remedy
    return caught.value.code


def assert_whole(home: Path, old: Path) -> None:
    """The home works in its new place and nothing in it leads to the old one."""
    assert open_home().root == home == default_root()
    assert not old.exists()
    active = Store(home).active()
    assert active.id == "g1" and active.folder.is_relative_to(home)
    assert [check.ok for check in check_files(active)] == [True, True]
    done = subprocess.run([str(active.python), "-c", "print(40 + 2)"], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "42"
    for path in home.rglob("*"):
        if path.is_symlink():
            assert not os.readlink(path).startswith(f"{old}{os.sep}"), path
    assert str(old) + os.sep not in (active.env / "pyvenv.cfg").read_text()
    assert (home / "runs/mine/adapter.bin").read_bytes() == b"adapter"
    assert os.path.samefile(home / "cache/uv/archive-v0/x/shared.bin", active.env / "shared.bin")


@pytest.mark.parametrize("same_disk", [True, False], ids=["rename", "copy"])
def test_everything_moves_and_works_there(root, tmp_path, monkeypatch, same_disk):
    """On one disk by a rename, to another by a copy that keeps links; the next start finds it."""
    if not same_disk:
        monkeypatch.setattr(homes, "_same_disk", lambda one, two: False)
    target = tmp_path / "a new place, ünusual" / "fettle"
    assert homes.move(Operations(open_home()), target) == target
    assert_whole(target, root)
    again = tmp_path / "and again"
    again.mkdir()
    homes.move(Operations(open_home()), again)
    assert_whole(again, target)


@pytest.mark.parametrize("moment", ["noted", "renamed", "relocated"])
def test_a_move_cut_off_at_any_moment_leaves_a_home_that_is_found(root, tmp_path, monkeypatch, moment):
    """Before the rename the old folder counts, after it the new one, and its links are mended."""
    target = tmp_path / "new"

    class Killed(BaseException):
        """What no handler catches."""

    def die(*_: object) -> None:
        raise Killed

    if moment == "noted":
        monkeypatch.setattr(Path, "rename", die)
    elif moment == "renamed":
        monkeypatch.setattr(homes, "relocate", die)
    else:
        noted = iter([note_location, die])
        monkeypatch.setattr(homes, "note_location", lambda *places: next(noted)(*places))
    with pytest.raises(Killed):
        homes.move(Operations(open_home()), target)
    monkeypatch.undo()
    monkeypatch.delenv("FETTLE_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    if moment == "noted":
        assert open_home().root == root and Store(root).active().id == "g1" and not target.exists()
    else:
        assert_whole(target, root)


def test_a_copy_cut_off_leaves_the_old_home_and_no_half_of_a_new_one(root, tmp_path, monkeypatch):
    """The disk fills up, or somebody kills it."""
    monkeypatch.setattr(homes, "_same_disk", lambda one, two: False)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(homes.shutil, "copy2", full)
    assert code(homes.move, Operations(open_home()), tmp_path / "new") == "disk-full"
    assert open_home().root == root and Store(root).active().id == "g1"
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".new*"))


def test_too_small_a_disk_is_refused_before_anything_is_copied(root, tmp_path, monkeypatch):
    """The figures are in the message."""
    monkeypatch.setattr(homes, "_same_disk", lambda one, two: False)
    usage = homes.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(homes.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert code(homes.move, Operations(open_home()), tmp_path / "new") == "disk-full"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("where", [".", "inside", "..", "taken", "file"])
def test_a_place_that_cannot_take_it_is_refused(root, where):
    """There already, in itself, around itself, in use."""
    taken = root.parent / "taken"
    taken.mkdir()
    (taken / "something").touch()
    (root.parent / "file").touch()
    target = root / where if where in (".", "inside") else (root.parent if where == ".." else root.parent / where)
    assert code(homes.move, Operations(open_home()), target) == "home-target"
    assert Store(root).active().id == "g1"


def test_nothing_moves_while_the_window_or_an_installation_needs_it(root, tmp_path):
    """Each holds its lock; afterwards the move works."""
    with FileLock(root / LOCK):
        assert code(homes.move, Operations(open_home()), tmp_path / "new") == "home-busy"
    with Store(root).install_lock():
        assert code(homes.move, Operations(open_home()), tmp_path / "new") == "install-running"
    homes.move(Operations(open_home()), tmp_path / "new")


def test_a_folder_named_by_the_variable_is_not_moved(root, tmp_path, monkeypatch):
    """The shell would go on naming the old one."""
    monkeypatch.setenv("FETTLE_HOME", str(root))
    assert code(homes.move, Operations(open_home()), tmp_path / "new") == "home-by-variable"


def test_a_disk_that_is_not_connected_is_named_and_no_empty_home_is_made(root, tmp_path):
    """It would look as if everything were lost."""
    homes.move(Operations(open_home()), tmp_path / "disk" / "fettle")
    (tmp_path / "disk").rename(tmp_path / "unplugged")
    assert code(open_home) == "home-missing"
    assert not (tmp_path / "disk").exists() and not root.exists()
    (tmp_path / "unplugged").rename(tmp_path / "disk")
    assert Store(open_home().root).active().id == "g1"


@pytest.mark.parametrize("text", ["", "{", "[]", '["relative"]', "[5]", '"/x"', "\xff"])
def test_a_note_edited_into_nonsense_is_one_plain_message(root, text):
    """And the way out is in it."""
    location_file().write_text(text, encoding="latin-1")
    assert code(open_home) == "home-note-damaged"
    location_file().unlink()
    assert Store(open_home().root).active().id == "g1"


def test_parts_add_up_to_what_the_disk_has(root):
    """A file that cache and environment share counts once."""
    found = {part.name: part.bytes for part in homes.parts(open_home())}
    blocks = {}
    for path in root.rglob("*"):
        stat = path.lstat()
        blocks[stat.st_ino] = stat.st_blocks * 512
    assert sum(found.values()) == sum(blocks.values())
    assert found["envs"] >= PAYLOAD > found["cache"]


@pytest.mark.parametrize("keep_runs", [False, True])
def test_an_uninstall_removes_what_it_listed_and_nothing_else(root, tmp_path, keep_runs):
    """Files of others in the folder stay and are named; runs stay if asked."""
    (root / "mine.txt").write_text("not Fettle's")
    listed = homes.to_remove(open_home(), keep_runs=keep_runs)
    left = homes.uninstall(Operations(open_home()), keep_runs=keep_runs)
    assert not any(path.exists() for path in listed)
    assert {path.name for path in left} == {"mine.txt"} | ({"runs"} if keep_runs else set())


def test_an_uninstall_of_a_moved_home_leaves_no_trace(root, tmp_path):
    """The note of the place goes too."""
    homes.move(Operations(open_home()), tmp_path / "new")
    assert homes.uninstall(Operations(open_home()), keep_runs=False) == []
    assert not (tmp_path / "new").exists() and not location_file().exists() and not root.exists()


def test_nothing_is_removed_while_something_runs(root):
    """The same locks as for a move."""
    with FileLock(root / LOCK):
        assert code(homes.uninstall, Operations(open_home()), keep_runs=False) == "home-busy"
    assert Store(root).active().id == "g1"


def uninstaller(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", "uninstall", *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def test_an_uninstall_by_command_asks_names_what_it_leaves_and_takes_the_menus_entry(root, tmp_path, monkeypatch):
    """Where nobody can answer nothing is deleted; a run elsewhere and the models of other programs stay."""
    hub, elsewhere = tmp_path / "hub", tmp_path / "my run"
    hub.mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    create(elsewhere, {"id": "run-1", "kind": "train", "title": "Mine"})
    (elsewhere / "events.jsonl").write_text('{"type": "stopped", "seq": 1, "time": 1.0, "protocol": 1}\n')
    (root / "runs" / "run-1.json").write_text(json.dumps({"folder": str(elsewhere)}))
    menu = [sys.executable, "-I", str(ROOT / "installers" / "linux" / "install.py")]
    subprocess.run(menu, check=True, capture_output=True)
    fetched = tmp_path / "cache" / "fettle" / "uv-0.1"
    fetched.mkdir(parents=True)
    entry = tmp_path / "data" / "applications" / "fettle.desktop"

    refused = uninstaller()
    assert refused.returncode == 1 and "[not-confirmed]" in refused.stderr
    listed = uninstaller("--list").stdout
    assert str(entry) in listed and str(fetched.parent) in listed and root.is_dir() and entry.is_file()
    assert f"Not touched: a run whose folder you chose: {elsewhere}" in listed
    assert f"Not touched: models that other programs use too: {hub}" in listed

    done = uninstaller("--yes")
    assert done.returncode == 0, done.stderr
    assert not root.exists() and not entry.exists() and not fetched.exists()
    assert [each.name for each in (tmp_path / "data").rglob("*") if each.is_file()] == []
    assert elsewhere.is_dir() and hub.is_dir()


def test_an_uninstall_leaves_the_menus_entry_of_another_checkout(root, tmp_path):
    """It starts another program."""
    entry = tmp_path / "data" / "applications" / "fettle.desktop"
    entry.parent.mkdir()
    entry.write_text(f"[Desktop Entry]\nTryExec={tmp_path}/other/fettle\n")
    assert uninstaller("--yes").returncode == 0
    assert entry.is_file() and not root.exists()


def test_an_uninstall_of_a_linked_home_takes_link_and_folder(root, tmp_path):
    """Nothing is left that the next start would stumble over."""
    root.rename(tmp_path / "disk")
    root.symlink_to(tmp_path / "disk")
    assert homes.uninstall(Operations(open_home()), keep_runs=False) == []
    assert not root.is_symlink() and not (tmp_path / "disk").exists()

"""What Fettle wrote, edited by hand into something else: one plain message, the way back stays, nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import pytest
from generation_bench import make
from install_bench import Bench

from app.cli import main
from app.operations import Operations
from app.paths import open_home
from env_manager.errors import EnvError
from env_manager.fetching.large import WHEELS
from env_manager.fetching.wheel_sizes import WheelSizes
from env_manager.fetching.wheels import WheelSize
from env_manager.fetching.wheelstore import WheelStore
from env_manager.generations import Store
from env_manager.pip_config import broken_pip_file, pip_options
from env_manager.planning.catalog_file import BUNDLED, load_catalog
from env_manager.sharing.exchange import read_recipe
from trainer.operation import create

pytestmark = pytest.mark.env
DEEP = "[" * 100_000
LONG = "x" * 5000


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """A command in this process, as the launcher starts it: exit status, output, errors."""
    before, sys.argv = sys.argv, ["fettle", *words]
    try:
        with pytest.raises(SystemExit) as left:
            main()
    finally:
        sys.argv = before
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    assert "[unexpected]" not in said.err, said.err
    return int(left.value.code or 0), said.out, said.err


@pytest.fixture
def store(own_home: Path) -> Store:
    """Two generations; the newer is active."""
    store = Store(own_home)
    for serial, id in enumerate(("g1", "g2"), 1):
        make(store, id, serial=serial)
        store.point_to(id, "install")
    return store


def record(**changes: object) -> Callable[[Store], None]:
    """An edit of the active generation's record."""

    def edit(store: Store) -> None:
        file = store.envs / "g2" / "generation.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return edit


def text(place: str, content: str | bytes) -> Callable[[Store], None]:
    """An edit that puts this in place of a file in `envs`."""

    def edit(store: Store) -> None:
        (store.envs / place).write_bytes(content if isinstance(content, bytes) else content.encode())

    return edit


def folder(place: str) -> Callable[[Store], None]:
    """An edit that puts a folder where a file belongs."""

    def edit(store: Store) -> None:
        (store.envs / place).unlink(missing_ok=True)
        (store.envs / place).mkdir()

    return edit


# What is edited, how, the problem that is then told (None: it does no harm), where a rollback leads (None: it is refused).
EDITS = [
    ("an empty pointer", text("active", ""), "active-missing", "g2"),
    ("a pointer of bytes", text("active", bytes(range(256))), "active-missing", "g2"),
    ("a pointer out of the folder", text("active", "../../etc\n"), "active-missing", "g2"),
    ("a pointer of two lines", text("active", "g1\ng2\n"), "active-missing", "g2"),
    ("an endless pointer", text("active", LONG), "active-missing", "g2"),
    ("a folder for a pointer", folder("active"), "in-the-way", None),
    ("a record nested without end", text("g2/generation.json", DEEP), "generation-damaged", "g1"),
    ("a record that is a folder", folder("g2/generation.json"), "generation-damaged", "g1"),
    ("a record that is a list", text("g2/generation.json", "[]"), "generation-damaged", "g1"),
    ("a plan whose torch is a word", record(plan={"torch": "x"}), "generation-damaged", "g1"),
    ("a plan whose source is a number", record(plan={"source": 5}), "generation-damaged", "g1"),
    ("a plan with a number for notes", record(plan={"notes": 5}), "generation-damaged", "g1"),
    ("steps that are letters", record(steps="abc"), "generation-damaged", "g1"),
    ("probes that are numbers", record(probes=[1, 2]), "generation-damaged", "g1"),
    ("checks that are numbers", record(checks=[1, 2]), "generation-damaged", "g1"),
    ("an interpreter that is a number", record(interpreter={"path": 5}), "generation-damaged", "g1"),
    ("an interpreter without a version", record(interpreter={"path": "/x"}), None, "g1"),
    ("gpus that are a number", record(hardware={"gpus": 7}), "generation-damaged", "g1"),
    ("a date that is none", record(created="yesterday"), "generation-damaged", "g1"),
    ("a size that is no number", record(bytes=float("nan")), "generation-damaged", "g1"),
    ("a format that is a word", record(format="1"), "generation-damaged", "g1"),
    ("a history of bytes", text("history.jsonl", os.urandom(3000)), None, "g1"),
    ("a history of other types", text("history.jsonl", '{"id": [1]}\n{"id": 5}\n{"id": "../x"}\n[]\n'), None, "g1"),
    ("a history nested without end", text("history.jsonl", DEEP), None, "g1"),
    ("a history of endless names", text("history.jsonl", json.dumps({"id": LONG})), None, "g1"),
    ("a folder for a history", folder("history.jsonl"), "in-the-way", None),
    ("an endless layout number", text("format", "9" * 5000), "store-damaged", None),
    ("a label of other types", text("g2/label.json", '{"name": ["x"]}'), None, "g1"),
    ("a label nested without end", text("g2/label.json", DEEP), None, "g1"),
    ("a label that is a folder", folder("g2/label.json"), None, "g1"),
    ("a note of damage nested without end", text("g1/damage.json", DEEP), None, None),
    ("a policy of a word", text("keep.json", '{"keep": "many"}'), None, "g1"),
    ("a policy of infinity", text("keep.json", '{"keep": 1e400}'), None, "g1"),
    ("a leftover that is a file", text(".build-x", "x"), None, "g1"),
    ("a leftover that is a link", lambda store: (store.envs / ".removed-x").symlink_to(store.root), None, "g1"),
    ("a deleted folder", lambda store: shutil.rmtree(store.envs / "g2"), "active-missing", "g1"),
    ("a deleted environment", lambda store: shutil.rmtree(store.envs / "g2" / "env"), "interpreter-missing", "g1"),
]


@pytest.mark.parametrize(("edit", "told", "back"), [row[1:] for row in EDITS], ids=[row[0] for row in EDITS])
def test_an_edit_is_told_by_name_and_the_way_back_stays(store, capsys, edit, told, back):
    """Status names it, every command ends in a plain word, and what was not edited is whole."""
    edit(store)
    status, out, _ = run(capsys, "env", "status", "--json")
    codes = [each["code"] for each in json.loads(out)["problems"]]
    assert (told in codes and status == 1) if told else (codes == [] and status == 0)
    for words in (["env", "list"], ["env", "check"], ["env", "export"], ["env", "diagnose"], ["doctor"], ["home"]):
        run(capsys, *words)
    status, out, err = run(capsys, "env", "rollback")
    assert status == (1 if back is None else 0), err
    if back:
        assert f"Environment {back} is active again" in out
    assert (store.envs / "g1" / "env" / "data.txt").read_text() == "content"


def test_a_name_that_would_move_the_cursor_is_not_shown(store, capsys):
    """A label edited by hand never reaches the terminal as it is."""
    (store.envs / "g2" / "label.json").write_text(json.dumps({"name": "\x1b[2J", "note": "", "pinned": False}))
    (store.envs / "g1" / "label.json").write_text(json.dumps({"name": LONG, "note": "", "pinned": False}))
    status, out, _ = run(capsys, "env", "list")
    assert status == 0 and "\x1b" not in out and LONG not in out


def test_without_a_history_a_rollback_goes_to_the_one_before(store, capsys):
    """The order of generations is enough; from the oldest there is nowhere to go."""
    store.history.unlink()
    assert run(capsys, "env", "rollback")[0] == 0
    assert store.active_id() == "g1"
    store.history.unlink()
    assert "nothing-to-roll-back" in run(capsys, "env", "rollback")[2]


def test_an_interpreter_that_cannot_even_be_looked_at_is_missing(store, capsys):
    """As where a folder on the way to it is closed to this user."""
    python = store.get("g2").python
    python.unlink()
    python.symlink_to("x" * 300)
    status, out, _ = run(capsys, "env", "status", "--check", "--json")
    assert status == 1 and [each["code"] for each in json.loads(out)["problems"]] == ["interpreter-missing"]
    assert "interpreter-missing" in run(capsys, "env", "check")[2]
    assert run(capsys, "env", "rollback")[0] == 0


@pytest.mark.parametrize(
    ("code", "named"),
    [("disk-full", "disk-full"), ("certificate-date", "certificate-date"), ("install-failed", "unknown")],
)
def test_doctor_tells_the_last_installations_failure_in_its_own_words(store, capsys, own_home, code, named):
    """What was named where it happened is not unknown."""
    folder = own_home / "installs" / "install-1"
    create(folder, {"id": "install-1", "kind": "install", "title": "Install"})
    failure = {"type": "failed", "code": code, "message": "It needs more.", "remedy": "Give it more."}
    (folder / "events.jsonl").write_text(json.dumps({"protocol": 1, "seq": 1, "time": 1.0} | failure) + "\n")
    report = json.loads(run(capsys, "doctor", "--json")[1])
    assert report["last_install_failed"][0]["name"] == named


def test_an_installation_that_cannot_be_started_does_not_seem_to_start(store, own_home, monkeypatch):
    """Its record would keep others away for a minute."""

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("app.operations.spawn_detached", refuse)
    with pytest.raises(PermissionError):
        Operations(open_home()).start_install()
    assert list((own_home / "installs").iterdir()) == []


def test_a_clock_set_back_does_not_make_a_dead_installation_look_as_if_it_started(store, own_home):
    """Its record is then one of the future."""
    folder = own_home / "installs" / "install-1"
    create(folder, {"id": "install-1", "kind": "install", "title": "Install"})
    assert Operations(open_home()).get("install-1").view().state == "starting"
    tomorrow = time.time() + 86_400
    os.utime(folder / "operation.json", (tomorrow, tomorrow))
    assert Operations(open_home()).get("install-1").view().state == "crashed"


@pytest.mark.parametrize("content", ["[]", "5", DEEP, '{"id": 5, "kind": "install", "title": "x", "created": 1}', "{"])
def test_an_operation_that_was_edited_hides_no_other(store, capsys, own_home, content):
    """A record of an old installation or run that is nonsense is passed over."""
    for parent in ("installs", "runs"):
        (own_home / parent / "old").mkdir(parents=True)
        (own_home / parent / "old" / "operation.json").write_text(content)
    (own_home / "runs" / "link.json").write_text('{"folder": 5}' if content == "5" else content)
    assert run(capsys, "runs", "list")[0] == 0
    assert run(capsys, "env", "delete", "g1", "--preview")[0] == 0


@pytest.mark.parametrize(
    "content", ["[]", DEEP, '{"address": 5}', '{"address": "a", "etag": [1]}', '{"address": "a", "total": "x"}']
)
def test_a_note_of_a_part_that_was_edited_is_not_believed(tmp_path, content):
    """Then only the hash decides over the part."""
    store = WheelStore(tmp_path)
    (tmp_path / f"{'a' * 64}.json").write_text(content)
    assert store.origin("a" * 64) is None


@pytest.mark.parametrize(
    "content",
    ["[]", DEEP, '{"a": ["x", {}]}', '{"a": [-1, 2, 3, 4, 5, 6, 7]}', '{"a": [1, 2, "x", 4, 5, 6, 7]}', '{"a": [1]}'],
)
def test_sizes_that_were_edited_are_measured_again(tmp_path, content):
    """They are only a memory."""
    (tmp_path / "wheel-sizes.json").write_text(content)
    assert WheelSizes(tmp_path / "wheel-sizes.json").known == {}
    (tmp_path / "wheel-sizes.json").write_text(json.dumps({"a": astuple(WheelSize(1, None))}))
    assert WheelSizes(tmp_path / "wheel-sizes.json").known == {"a": WheelSize(1, None)}


@pytest.mark.parametrize(
    "content",
    [os.urandom(500) + b"\xff", BUNDLED.read_bytes() + b"\n# \xe9\n", b"a = " + DEEP.encode(), b"", b"\0"],
    ids=["bytes", "another encoding", "nested without end", "empty", "nul"],
)
def test_a_catalog_of_anything_is_refused(tmp_path, content):
    """With the place and the reason."""
    (tmp_path / "catalog.toml").write_bytes(content)
    with pytest.raises(EnvError) as caught:
        load_catalog(tmp_path / "catalog.toml")
    assert caught.value.code == "catalog-invalid" and "catalog.toml" in caught.value.message


@pytest.mark.parametrize(
    "form", [lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n")], ids=["mark", "crlf"]
)
def test_what_an_editor_adds_to_a_file_changes_nothing(tmp_path, form):
    """A mark before the first letter, other line ends: in the catalog, in an exported file, in pip's configuration."""
    (tmp_path / "catalog.toml").write_text(form(BUNDLED.read_text()), encoding="utf-8", newline="")
    assert load_catalog(tmp_path / "catalog.toml") == load_catalog()
    (tmp_path / "lock").write_text(form(f"x==1.0 \\\n    --hash=sha256:{'a' * 64}\n"), encoding="utf-8", newline="")
    assert read_recipe(tmp_path / "lock").lock.versions == {"x": "1.0"}
    pip = tmp_path / "pip.conf"
    pip.write_text(form("[global]\nindex-url = http://company\n"), encoding="utf-8", newline="")
    assert broken_pip_file({"PIP_CONFIG_FILE": str(pip)}) is None
    assert pip_options({"PIP_CONFIG_FILE": str(pip)})["index-url"] == "http://company"


def test_an_installation_goes_on_among_edited_files(bench: Bench):
    """Sizes that cannot be kept, a leftover that is no folder, junk among large wheels and a damaged older one."""
    first = bench.install()
    sizes = bench.store.cache.parent / "wheel-sizes.json"
    sizes.unlink()
    sizes.mkdir()
    (bench.store.envs / ".build-x").write_text("x")
    (bench.store.root / WHEELS).mkdir(exist_ok=True)
    (bench.store.root / WHEELS / ("c" * 64 + ".part")).mkdir()
    file = first.folder / "generation.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"checks": [1], "steps": "abc"}))
    assert bench.install().id == bench.store.active_id() != first.id
    assert not (bench.store.envs / ".build-x").exists()

"""What a power cut would need: content is synced before the name that leads to it, read off the system calls."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from small_index import SmallIndex
from system_calls import traced
from trials import Home

pytestmark = pytest.mark.env

CALLS = "openat,rename,fsync,fdatasync,syncfs,write"


@pytest.fixture(scope="module")
def calls(fast_folder: Path, small_index: SmallIndex, bare_environ: dict[str, str]) -> dict[str, list[str]]:
    """What each action does to the disk, in order, in words as "sync envs" or "rename A -> B"."""
    environ = bare_environ | {"PIP_INDEX_URL": small_index.url, "LARGE_ABOVE": "100"}
    home = Home(fast_folder / "home", small_index, fast_folder / "scratch", environ)
    first = home.must("install", FIRST_VERSION="1.0")
    done = {}
    for action, arguments in (("install", []), ("rollback", []), ("activate", [first]), ("delete", ["other"])):
        other = [each.id for each in home.store.list() if each.id != home.store.active_id()]
        told = [other[0] if each == "other" else each for each in arguments]
        log = home.scratch / f"{action}.txt"
        command = [*traced(["-f", "-y", "-e", f"trace={CALLS}"], log), *home.argv(action, *told)]
        environ = home.environ | {"FIRST_VERSION": "1.1"}
        subprocess.run(command, env=environ, check=True, capture_output=True, timeout=300)
        done[action] = [said for line in log.read_text().splitlines() if (said := in_words(line, home.root))]
    return done


def in_words(line: str, root: Path) -> str:
    """One call below the home, with names in place of what differs from run to run."""
    line = re.sub(r"^\d+ +", "", line).replace(str(root) + "/", "")
    line = re.sub(r"envs/\.build-[\w-]+", "BUILD", line)
    line = re.sub(r"envs/(\.removed-)?\d{8}-\d{6}-\w{4}", r"\1DONE", line)
    line = re.sub(r"wheels/[0-9a-f]{64}", "wheels/HASH", line)
    line = re.sub(r"/\.([a-z.]+)-\w{8}\b", r"/new \1", line)
    renamed = re.match(r'rename\("([^"]*)", "([^"]*)"', line)
    if renamed:
        return f"rename {renamed[1]} -> {renamed[2]}"
    synced = re.match(r"(fsync|fdatasync|syncfs)\(\d+<([^>]*)>", line)
    if synced:
        return f"{'sync all' if synced[1] == 'syncfs' else 'sync'} {synced[2]}"
    written = re.match(r"write\(\d+<(envs/history.jsonl)>", line)
    return f"write {written[1]}" if written else ""


def in_order(calls: list[str], *wanted: str) -> None:
    """Each is there, after the one before."""
    rest = iter(calls)
    for each in wanted:
        assert each in rest, f"{each!r} is missing or too early in:\n" + "\n".join(calls)


SWITCH = (
    "write envs/history.jsonl",
    "sync envs/history.jsonl",
    "sync envs/new active",
    "rename envs/new active -> envs/active",
    "sync envs",
)


def test_an_environment_is_on_the_disk_before_anything_says_so(calls):
    """The files, then the record that claims them, then the name, then the note, then the pointer."""
    in_order(
        calls["install"],
        "sync all BUILD",
        "sync BUILD/new generation.json",
        "rename BUILD/new generation.json -> BUILD/generation.json",
        "sync BUILD",
        "rename BUILD -> DONE",
        "sync envs",
        *SWITCH,
    )


@pytest.mark.parametrize("action", ["rollback", "activate"])
def test_a_switch_is_noted_then_made_each_synced(calls, action):
    """Nothing of an environment is touched, and the pointer comes last."""
    in_order(calls[action], *SWITCH)
    assert [each for each in calls[action] if "DONE" in each] == []


def test_a_large_wheel_is_on_the_disk_before_it_has_its_name(calls):
    """Its bytes, then its name under its hash, then the folder."""
    wheel = "fx_first-1.1-py3-none-any.whl"
    in_order(
        calls["install"],
        "sync wheels/HASH.part",
        f"rename wheels/HASH.part -> wheels/HASH/{wheel}",
        "sync wheels/HASH",
        "sync wheels",
    )


def test_a_deleted_environment_is_out_of_sight_before_it_is_said_to_be(calls):
    """One rename, synced, then the note; the files go last."""
    in_order(
        calls["delete"],
        "rename DONE -> .removed-DONE",
        "sync envs",
        "write envs/history.jsonl",
        "sync envs/history.jsonl",
    )

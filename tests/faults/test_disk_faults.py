"""A disk that fails, fills up or may not be written: one plain message, and the active environment as it was."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import landings
import pytest
from small_index import SmallIndex, fill
from system_calls import Injection, Point, of_each_kind
from trials import OPTIONAL, Before, Home, Torn, alive, no_leftovers, whole, works

pytestmark = pytest.mark.env

# What the system may answer to each call; a full disk and a read-only one stay so, a bad sector need not.
LASTING = ("ENOSPC", "EROFS")
ANSWERS = {
    "ENOSPC": ("openat", "write", "mkdir", "rename", "link", "linkat", "symlink", "copy_file_range", "fsync"),
    "EIO": ("openat", "write", "rename", "fsync", "syncfs", "unlink", "unlinkat", "copy_file_range", "linkat"),
    "EACCES": ("openat", "mkdir", "rename", "unlinkat", "linkat", "symlink"),
    "EROFS": ("openat", "mkdir", "rename", "unlink", "symlink"),
    "EMFILE": ("openat",),
}
LAYING = ("copy_file_range", "linkat", "symlink", "write")  # by which uv lays packages down
CODES = {
    "ENOSPC": {"disk-full"},
    "EIO": {"system-error"},
    "EACCES": {"no-permission"},
    "EROFS": {"no-permission"},
    "EMFILE": {"system-error"},
}
# What could not be deleted before a commit is committed with it, and does no harm.
SCRATCH = frozenset(("steps", "exact.in", "requirements.in", "constraints.txt"))
EACH = 9  # faults of each kind and program


@pytest.fixture(scope="module")
def home(fast_folder: Path, small_index: SmallIndex, bare_environ: dict[str, str]) -> Home:
    environ = bare_environ | {"PIP_INDEX_URL": small_index.url, "UV_HTTP_RETRIES": "0"}
    home = Home(fast_folder / "home", small_index, fast_folder / "scratch", environ)
    for version in ("1.0", "1.1", "1.0"):
        home.must("install", FIRST_VERSION=version)
    return home


def faults(points: list[Point], seed: int) -> list[Injection]:
    chance = random.Random(seed)
    found = []
    for answer, calls in ANSWERS.items():
        for program in ("fettle", "uv"):
            fitting = [point for point in points if point.call in calls and point.program == program]
            # What tells the harness how it goes cannot fail for ever.
            found += [
                Injection(point, f"error={answer}", lasting=answer in LASTING and point.call != "write")
                for point in of_each_kind(fitting, EACH, chance)
            ]
    return found


def fail(home: Home, fault: Injection) -> tuple[Before, int, str, str]:
    """An action with that fault: what was there before, its exit status, the last it told, all it said."""
    arguments, environ = home.prepare(fault.point.action)
    before = Before.of(home)
    argv, more = fault.argv(home.argv(fault.point.action, *arguments), home.scratch)
    done = subprocess.run(
        argv, env=home.environ | environ | more, capture_output=True, text=True, timeout=300, check=False
    )
    return before, done.returncode, (done.stdout.splitlines() or [""])[-1], done.stderr


def judged(home: Home, fault: Injection, answer: str) -> tuple[str, str]:
    """The code that the fault ended with, or "harmless"; and what did not hold."""
    before, status, last, said = fail(home, fault)
    if "Traceback" in said:
        return "traceback", said[-600:]
    if list(alive(home)):
        return "alive", str(list(alive(home)))
    code = last.removeprefix("failed ").split(":")[0] if status == 1 else "harmless"
    home.store.clean()
    no_leftovers(home, SCRATCH)
    whole(home, before, fault.point.action)
    if status == 0:
        works(home, but=OPTIONAL)
        return code, "" if home.store.active_id() != before.active else "told done, and the old one is active"
    if home.store.active_id() != before.active:
        return code, "told failed, and another is active"
    if code not in CODES[answer]:
        return code, f"code of {answer}: {last}"
    told = json.loads(last.split(": ", 1)[1])
    return code, "" if told["message"] and told["remedy"] else "nothing told"


def test_every_answer_of_a_bad_disk_is_told_plainly_and_changes_nothing(home):
    """Errors at system calls of Fettle and of uv, of each kind and phase some; harmless ones end in a whole new one."""
    began = time.monotonic()
    counts: Counter[tuple[str, str]] = Counter()
    wrong: list[str] = []
    points = home.learn("install") + home.learn("fetch")
    for fault in faults(points, seed=3):
        home.thin_out()
        answer = fault.how.removeprefix("error=")
        try:
            code, trouble = judged(home, fault, answer)
        except Torn as error:
            code, trouble = "torn", str(error)
        counts[f"{answer} to {fault.point.program}", code] += 1
        if trouble:
            wrong.append(f"{answer} at {fault.point}: {code}: {trouble}")
    seconds = time.monotonic() - began
    landings.REPORTS.append(landings.table(f"{counts.total()} answers of a bad disk in {seconds:.0f} s", counts))
    home.must("install", FIRST_VERSION="1.0")
    assert not wrong, "\n".join(wrong)


def test_what_a_failed_uv_has_half_laid_down_is_not_taken_for_a_package(home):
    """uv fails while it lays down packages that are proved and in the cache, and another one goes on."""
    points = [point for point in home.learn("install") if point.call in LAYING and point.run and point.number <= 3]
    assert {point.call for point in points} >= {"copy_file_range"}
    for point in points:
        code, trouble = judged(home, Injection(point, "error=EIO"), "EIO")
        assert not trouble, f"{point}: {code}: {trouble}"


def test_an_installation_outlives_its_uv_and_says_that_it_was_killed(home):
    """uv alone killed, as by a system that runs out of memory."""
    points = [point for point in home.learn("fetch") if point.run and point.call in ("linkat", "rename", "write")]
    for point in of_each_kind(points, 4, random.Random(5)):
        before, status, last, said = fail(home, Injection(point, "signal=SIGKILL"))
        assert "Traceback" not in said
        home.store.clean()
        no_leftovers(home, SCRATCH)
        whole(home, before, "fetch")
        if status:
            assert last.startswith("failed uv-killed: "), last
            assert home.store.active_id() == before.active
    works(home, but=OPTIONAL)


def in_a_mount(home: Path, options: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Install into a small or read-only file system that exists only for that process."""
    inner = f'mount -t tmpfs -o {options} none "$0" && exec "$@"'
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    argv = ["unshare", *as_root, "--mount", "sh", "-c", inner, str(home)]
    argv += Home(home, None, home.parent / "scratch", {}).argv("install")  # type: ignore[arg-type]
    return subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=300, check=False)


# Mounts of one process exist on Linux only.
if sys.platform == "linux":

    def test_a_disk_that_fills_up_is_named(bare_environ, tmp_path):
        """An index that tells no sizes cannot warn before; the write that fails is named."""
        big = SmallIndex(tmp_path / "wheels")
        fill(tmp_path / "wheels", payload=400_000_000)
        big.ranges = False
        home = tmp_path / "home"
        home.mkdir()
        done = in_a_mount(home, "size=300m", bare_environ | {"PIP_INDEX_URL": big.url})
        big.close()
        assert done.stdout.splitlines()[-1].startswith("failed disk-full: "), done.stdout + done.stderr
        assert "Traceback" not in done.stderr

    def test_a_home_that_cannot_be_written_is_named(bare_environ, small_index, tmp_path):
        """A read-only file system is refused before anything else."""
        done = in_a_mount(tmp_path, "ro", bare_environ | {"PIP_INDEX_URL": small_index.url})
        assert done.stdout.splitlines()[-1].startswith("failed no-permission: "), done.stdout + done.stderr
        assert "Traceback" not in done.stderr

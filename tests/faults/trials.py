"""A home that actions are killed in, and what must hold of it whatever happened."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from small_index import SmallIndex
from system_calls import Injection, Point, calls_of

from env_manager.generations import Generation, Store
from env_manager.keeping.way_back import earlier
from env_manager.proving.preflight import check, check_files

ACT = Path(__file__).with_name("act.py")
HANG_SECONDS = 300
OPTIONAL = "fx-third"  # the package of a step that may fail
OF_ENVS = {"active", "history.jsonl", "install.lock", "format", "keep.json", "failed-install.log"}
OF_HOME = {"envs", "cache", "wheels", "python"}
MAY_CHANGE = {"label.json", "preflight.json", "damage.json"}
OF_GENERATION = {
    *("env", "generation.json", "requirements.lock", "pylock.toml", "files.tsv", "install.log"),
    *MAY_CHANGE,
}


class Torn(AssertionError):
    """Something that must hold after a fault does not."""


@dataclass
class Home:
    """One home with environments in it, and the index that it installs from."""

    root: Path
    index: SmallIndex
    scratch: Path
    environ: dict[str, str]
    seed: int = 0
    version: int = 0
    damaged: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.store = Store(self.root)
        self.random = random.Random(self.seed)
        self.scratch.mkdir(parents=True, exist_ok=True)

    def argv(self, action: str, *arguments: str) -> list[str]:
        return [sys.executable, str(ACT), str(self.root), action, *arguments]

    def run(self, action: str, *arguments: str, **environ: str) -> tuple[int, list[str]]:
        """An action to its own end: its status and what it told."""
        done = subprocess.run(
            self.argv(action, *arguments),
            env=self.environ | environ,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        if "Traceback" in done.stderr:
            raise Torn(done.stderr)
        return done.returncode, done.stdout.splitlines()

    def must(self, action: str, *arguments: str, **environ: str) -> str:
        """An action that has to succeed; the generation it tells."""
        code, lines = self.run(action, *arguments, **environ)
        if code != 0 or not lines[-1].startswith("ok "):
            raise Torn(f"{action} did not succeed: {lines}")
        return lines[-1].removeprefix("ok ")

    def prepare(self, action: str) -> tuple[list[str], dict[str, str]]:
        """Make a state in which the action has work to do; its arguments and environment."""
        store, active = self.store, self.store.active_id()
        others = [each.id for each in store.list() if each.id != active]
        if action == "fetch":
            shutil.rmtree(self.store.cache, ignore_errors=True)
        if action in ("install", "fetch"):
            self.version += 1
            return [], {"FIRST_VERSION": ("1.0", "1.1")[self.version % 2]}
        if action == "repair":
            self.damage()  # of which nobody knows until the repair looks
        if action == "name":
            self.version += 1
            return [others[0], f"name {self.version}"], {}
        if action in ("activate", "rollback") and not self.sound_others():
            # A repair's damage is in each that shares the file; these share none with them.
            shutil.rmtree(self.store.cache, ignore_errors=True)
            self.must("install", FIRST_VERSION="1.0")
            self.must("install", FIRST_VERSION="1.1")
        if action == "activate":
            return [self.sound_others()[0]], {}
        if action == "clear":
            return [self.only_one_of_its_kind()], {}
        if action == "delete":
            while len(others) < 3:
                others.append(self.must("install", FIRST_VERSION="1.0"))
            # Neither the active one nor the one that a rollback leads to.
            kept = {store.active_id(), getattr(store.previous(), "id", None)}
            return [next(each.id for each in store.list() if each.id not in kept)], {}
        return (["3"] if action == "keep" else []), {}

    def sound_others(self) -> list[str]:
        """Generations that a switch may lead to: not active, not known to be damaged."""
        trail = [*earlier(self.store.history_rows(), self.store.active_id())]
        return [each.id for each in self.store.list() if each.id in trail and not each.damage]

    def only_one_of_its_kind(self) -> str:
        """A generation with a package that no other has, so that the cache has something to clear."""
        for each in self.store.list():
            if each.packages["fx-first"] == "1.2" and each.id != self.store.active_id():
                return each.id
        made = self.must("install", FIRST_VERSION="1.2")
        self.must("rollback")
        return made

    def damage(self) -> None:
        """Alter a file of the active environment as a bad disk does: there and wherever it is linked."""
        active = self.store.active()
        assert active is not None
        file = next(active.env.glob("lib/python*/site-packages/fx_first/payload.bin"))
        with file.open("r+b") as payload:
            payload.seek(self.random.randrange(1000))
            payload.write(self.random.randbytes(8))

    def learn(self, action: str) -> list[Point]:
        """Every changing system call of an action, from one undisturbed run."""
        arguments, environ = self.prepare(action)
        return calls_of(action, self.argv(action, *arguments), self.environ | environ, self.scratch)

    def thin_out(self) -> None:
        """Keep few generations, as otherwise every look at them would take longer and longer."""
        kept = {self.store.active_id(), getattr(self.store.previous(), "id", None)}
        for each in self.store.list()[:-4]:
            if each.id not in kept:
                self.must("delete", each.id)


@dataclass(frozen=True)
class Before:
    """What was there before a fault: the active generation, and the content of every finished one."""

    active: str | None
    trail: list[str]
    content: dict[str, dict[str, tuple[int, int]]]

    @classmethod
    def of(cls, home: Home) -> Before:
        active = home.store.active_id()
        trail = list(earlier(home.store.history_rows(), active))
        return cls(active, trail, {each.id: content(each) for each in home.store.list()})


def content(generation: Generation) -> dict[str, tuple[int, int]]:
    """Every file of a generation that nothing may change: its size and which file it is on the disk."""
    found: dict[str, tuple[int, int]] = {}
    for folder, names, files in os.walk(generation.folder):
        # Bytecode comes as modules are imported.
        names[:] = [name for name in names if name != "__pycache__"]
        for name in files:
            path = os.path.join(folder, name)
            if folder != str(generation.folder) or (name not in MAY_CHANGE and name[0] != "."):
                status = os.lstat(path)
                found[os.path.relpath(path, generation.folder)] = (status.st_size, status.st_ino)
    return found


def changes(one: dict[str, tuple[int, int]], other: dict[str, tuple[int, int]]) -> list[str]:
    """The files in which two contents of a generation differ."""
    return sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))


def killed(home: Home, action: str, how: Injection | str | float) -> tuple[int, str, Before]:
    """Run an action and kill it: at a system call, at a place by name, or after so many seconds.

    Returns its exit status, the phase that it told last, and what was there before.
    """
    arguments, environ = home.prepare(action)
    before = Before.of(home)
    argv = home.argv(action, *arguments)
    environ = home.environ | environ | {"TOGETHER": "1"}
    if isinstance(how, Injection):
        argv, more = how.argv(argv, home.scratch)
        environ |= more
    elif isinstance(how, str):
        environ["KILL_AT"] = how
    out = home.scratch / "told.txt"
    with out.open("w") as told, (home.scratch / "said.txt").open("w") as said:
        process = subprocess.Popen(argv, env=environ, stdout=told, stderr=said, start_new_session=True)
        if isinstance(how, float):
            while not out.stat().st_size and process.poll() is None:
                time.sleep(0.01)
            time.sleep(how)
            process.kill()
        process.wait(timeout=HANG_SECONDS)
    if "Traceback" in (home.scratch / "said.txt").read_text():
        raise Torn((home.scratch / "said.txt").read_text())
    phases = [line.removeprefix("phase:") for line in out.read_text().splitlines() if line.startswith("phase:")]
    return process.returncode, phases[-1] if phases else action, before


def nothing_torn(home: Home, before: Before, action: str) -> None:
    """Invariants A, D and F, after a fault and at the next start."""
    nobody_lives(home)
    whole(home, before, action)
    home.store.clean()
    no_leftovers(home)
    whole(home, before, action)


def whole(home: Home, before: Before, action: str) -> None:
    """Whatever was finished is as it was, and the active environment is wholly the old one or wholly a new one."""
    status = home.store.status()
    if status.problems:
        raise Torn(f"problems: {[problem.message for problem in status.problems]}")
    for generation in status.generations:
        if generation.id in before.content and content(generation) != before.content[generation.id]:
            raise Torn(f"{generation.id} was changed: {changes(before.content[generation.id], content(generation))}")
        if not all(found.ok for found in check_files(generation)):
            raise Torn(f"{generation.id} claims to be finished and is not whole")
    there = {each.id for each in status.generations}
    gone = set(before.content) - there
    if len(gone) > (action in ("delete", "clear")):
        raise Torn(f"gone: {gone}")
    active = home.store.active()
    new = there - set(before.content)
    allowed = new | {before.active} if action not in ("activate", "rollback") else there
    if active is None or active.id not in allowed:
        raise Torn(f"active is {active and active.id}, not {before.active}")
    way_back_holds(home, active, before, action)


def works(home: Home, but: str = "") -> None:
    """The active environment proves itself, `but` for the package of an optional step."""
    active = home.store.active()
    assert active is not None
    broken = [found for found in check(active) if not found.ok]
    if but and any(step["state"] == "failed" for step in active.steps):
        broken = [found for found in broken if but not in (f"{found.name} {found.evidence}").replace("_", "-")]
    if broken:
        raise Torn(f"the active environment does not work: {broken}")


def way_back_holds(home: Home, active: Generation, before: Before, action: str) -> None:
    """A rollback leads to what was active before, whether or not the switch came to be; over what is known damaged."""
    if active.id != before.active and action == "rollback":
        return  # it went along the way back, and leads on from there
    trail = [before.active, *before.trail] if active.id != before.active else before.trail
    known = {each.id: each for each in home.store.list()}
    sound = [id for id in trail if id in known and id != active.id and not known[id].damage]
    previous = home.store.previous()
    leads_to = previous.id if previous else None
    # Where none of those is left, it may lead to one that was made earlier and never active.
    if sound and leads_to != sound[0]:
        raise Torn(f"a rollback leads to {leads_to}, not to {sound}; active is {active.id}, was {before.active}")


def nobody_lives(home: Home) -> None:
    """Nothing that the killed action started is alive; the system needs a moment to end it."""
    deadline = time.monotonic() + HANG_SECONDS
    while (left := list(alive(home))) and time.monotonic() < deadline:
        time.sleep(0.02)
    if left or home.store.installing():
        raise Torn(f"still alive: {left}")


def alive(home: Home) -> Iterator[str]:
    """Processes with this home in their command line; the dead that nobody has waited for have none."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(home.root) in command:
                yield command.replace(b"\0", b" ").decode(errors="replace")


def no_leftovers(home: Home, but: frozenset[str] = frozenset()) -> None:
    """After the next start nothing lies about that a fault left, `but` for files of these names in a generation."""
    strange = [each.name for each in home.root.iterdir() if each.name not in OF_HOME]
    generations = {each.id for each in home.store.list()}
    strange += [each.name for each in home.store.envs.iterdir() if each.name not in OF_ENVS | generations]
    for id in generations:
        strange += [
            f"{id}/{each.name}" for each in (home.store.envs / id).iterdir() if each.name not in OF_GENERATION | but
        ]
    strange += [str(each.relative_to(home.store.cache)) for each in home.store.cache.rglob(".tmp*")]
    if strange:
        raise Torn(f"left over: {strange}")

"""Generations on disk: list, activate, roll back, collect what a killed installer left."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import filelock

from env_manager import durable
from env_manager.errors import EnvError, from_os
from env_manager.generation import BUILD_PREFIX, MANIFEST, Generation
from env_manager.keeping import leftovers
from env_manager.keeping.labels import Label, checked, read_label, write_label
from env_manager.keeping.store_format import bring_up_to_date, is_older, require_known
from env_manager.keeping.way_back import earlier
from env_manager.proving.damage import note_damage
from env_manager.proving.preflight import check_files

__all__ = ["BUILD_PREFIX", "MANIFEST", "Generation", "Status", "Store"]

_LONGEST_ID = 100


@dataclass(frozen=True)
class Status:
    """What is there: the active generation, where a rollback would lead, what is wrong."""

    active: Generation | None
    previous: Generation | None
    generations: tuple[Generation, ...]
    problems: tuple[EnvError, ...]
    installing: bool
    passed_over: tuple[Generation, ...] = ()  # newer than `previous`, and known to be damaged

    def as_json(self) -> dict[str, Any]:
        return {
            "active": self.active.id if self.active else None,
            "previous": self.previous.id if self.previous else None,
            "generations": [generation.as_json() for generation in self.generations],
            "problems": [problem.as_json() for problem in self.problems],
            "installing": self.installing,
            "passed_over": [generation.id for generation in self.passed_over],
        }


class Store:
    """The folder of all generations: `envs/` with its pointer and history, and the package cache."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.envs = root / "envs"
        self.cache = root / "cache" / "uv"
        self.wheel_sizes = root / "cache" / "wheel-sizes.json"
        self.pythons = root / "python"
        self.pointer = self.envs / "active"
        self.history = self.envs / "history.jsonl"
        self.lock_file = self.envs / "install.lock"

    def get(self, id: str) -> Generation:
        """The generation of that id."""
        require_known(self.envs)
        if not _plain(id) or not (self.envs / id).is_dir():
            raise EnvError(
                "generation-unknown",
                f"There is no environment {id!r}.",
                "List the environments to see which there are.",
            )
        return Generation.load(self.envs / id)

    def active_id(self) -> str | None:
        """What the pointer names, whether it exists or not; None where nothing was ever made active."""
        try:
            # An edited pointer may hold anything; what is no id is found out where it is looked up.
            return self.pointer.read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_os(error, "read which environment is active") from error

    def active(self) -> Generation | None:
        """The active generation; None before the first installation."""
        id = self.active_id()
        if id is None:
            return None
        try:
            return self.get(id)
        except EnvError as error:
            if error.code != "generation-unknown":
                raise
            how = "was removed from outside" if _plain(id) else "cannot be one: the file that names it was edited"
            raise EnvError(
                "active-missing",
                f"The active environment {id[:80]!r} {how}.",
                "Roll back to another environment, or install the dependencies again.",
            ) from error

    def activate(self, id: str) -> Generation:
        """Make a generation the active one after checking its files; offline, one atomic replacement."""
        generation = self._whole(id)
        self.point_to(id, "activate")
        return generation

    def _whole(self, id: str) -> Generation:
        """The generation of that id, refused where its files are not as they were built."""
        generation = self.get(id)
        if trouble := _look_at(generation):
            raise EnvError(
                "generation-damaged",
                f"Environment {id} is damaged and was not activated: {trouble}",
                "Choose another environment, or install the dependencies again.",
            )
        return generation

    def point_to(self, id: str, action: str) -> None:
        """Note it in the history, then replace the pointer file; only for a generation proved just before.

        In this order a failure leaves the old one active, and a kill between the two loses no way back.
        """
        require_known(self.envs)
        try:
            self._note({"action": action, "id": id, "before": self.active_id()})
            durable.replace_text(self.pointer, id + "\n")
        except OSError as error:
            raise from_os(error, "switch the active environment") from error

    def previous(self) -> Generation | None:
        """The newest generation that was active before the present one and is not known to be damaged."""
        return next((each for each in self._earlier() if not each.damage), None)

    def passed_over(self) -> tuple[Generation, ...]:
        """The known damaged ones that lie between the active generation and the one that a rollback leads to."""
        return tuple(takewhile(lambda each: each.damage, self._earlier()))

    def _earlier(self) -> Iterator[Generation]:
        """Those that were active before and can be read, the newest first; without a history those made before."""
        require_known(self.envs)
        current, known = self.active_id(), False
        for id in earlier(self.history_rows(), current):
            with suppress(EnvError):  # deleted, or a record that cannot be read, which `status` tells of
                generation = self.get(id)
                known = True
                yield generation
        if current is not None and not known:
            yield from self._made_before(current)

    def _made_before(self, id: str) -> Iterator[Generation]:
        there = self._readable()[0]
        serial = next((each.serial for each in there if each.id == id), math.inf)
        yield from (each for each in reversed(there) if each.serial < serial)

    def rollback(self, to: str | None = None, *, tell: Callable[[str], None] = lambda line: None) -> Generation:
        """Go back to `to`, else to the newest earlier generation that is whole; offline, nothing is downloaded.

        `tell` hears of each generation that was passed over and why.
        """
        target = self._whole(to) if to else self._newest_whole(tell)
        self.point_to(target.id, "rollback")
        return target

    def _newest_whole(self, tell: Callable[[str], None]) -> Generation:
        passed: list[str] = []
        for generation in self._earlier():
            trouble = generation.damage or _look_at(generation)
            if not trouble:
                return generation
            passed.append(f"Environment {generation.id} was passed over, because it is damaged: {trouble}")
            tell(passed[-1])
        raise EnvError(
            "nothing-to-roll-back",
            " ".join(["There is no earlier environment to go back to.", *passed]),
            "Install the dependencies again if this one is broken.",
        )

    def label(
        self, id: str, *, name: str | None = None, note: str | None = None, pinned: bool | None = None
    ) -> Generation:
        """Name, annotate, pin or unpin a generation; what is None stays as it is."""
        generation = self.get(id)
        old = read_label(generation.folder)
        shown, text = checked(old.name if name is None else name, old.note if note is None else note)
        try:
            write_label(generation.folder, Label(shown, text, old.pinned if pinned is None else pinned))
        except OSError as error:
            raise from_os(error, "keep the name of an environment") from error
        return self.get(id)

    def next_serial(self) -> int:
        """One more than every generation has; the caller holds the install lock."""
        return 1 + max((generation.serial for generation in self.list()), default=0)

    def history_rows(self) -> Iterator[dict[str, Any]]:
        """Every switch so far, oldest first; a line cut off by a crash is passed over."""
        try:
            lines = self.history.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            raise from_os(error, "read the history of environments") from error
        for line in lines:
            try:
                row = durable.parse_json(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row

    def note_removal(self, id: str) -> None:
        """Write into the history that a generation was deleted; under a key that no rollback follows."""
        self._note({"action": "delete", "removed": id})

    def _note(self, row: dict[str, Any]) -> None:
        row = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())} | row
        durable.append_line(self.history, json.dumps(row))

    @contextmanager
    def install_lock(self) -> Iterator[None]:
        """Hold the right to install; the operating system gives it back if the holder dies."""
        try:
            self.envs.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.lock_file, blocking=False)
            lock.acquire()
        except filelock.Timeout as error:
            raise EnvError(
                "install-running",
                "Another installation is running in this folder.",
                "Wait until it has ended, or stop it.",
            ) from error
        except OSError as error:
            raise from_os(error, "prepare the folder for environments") from error
        try:
            bring_up_to_date(self.envs)
            yield
        finally:
            lock.release()

    def installing(self) -> bool:
        """Whether an installer is alive in this folder."""
        if not self.lock_file.exists():
            return False
        try:
            with self.install_lock():
                return False
        except EnvError as error:
            # Where nothing can be written nobody installs.
            return error.code == "install-running"

    def clean(self) -> tuple[str, ...]:
        """Remove what was left half done, and bring an older layout up to date; nothing while an installer lives.

        Returns the names removed. What cannot be removed is left: it is in nobody's way, least of all a rollback's.
        """
        if not (any(leftovers.left_over(self.envs, self._folders(), self.cache)) or is_older(self.envs)):
            return ()  # without taking the lock, which an installer may want at this very moment
        try:
            with self.install_lock():
                return self.remove_leftovers()
        except EnvError as error:
            if error.code in ("install-running", "no-permission", "disk-full", "system-error"):
                return ()
            raise

    def remove_leftovers(self) -> tuple[str, ...]:
        """The part of `clean` for a caller that holds the install lock."""
        return leftovers.remove(self.envs, self._folders(), self.cache)

    def status(self) -> Status:
        """Everything at a glance; what is wrong is listed, not raised."""
        problems: list[EnvError] = []
        active = previous = None
        passed: tuple[Generation, ...] = ()
        try:
            active = self.active()
            if active:
                active.require_interpreter()
        except EnvError as error:
            problems.append(error)
            if error.code == "store-newer":
                return Status(None, None, (), tuple(problems), False)
        try:
            previous, passed = self.previous(), self.passed_over()
        except EnvError as error:
            problems.append(error)
        good, broken = self._readable()
        return Status(active, previous, tuple(good), (*problems, *broken), self.installing(), passed)

    def _readable(self) -> tuple[list[Generation], list[EnvError]]:
        """Every generation that can be read, oldest first, and what is wrong with the others."""
        good: list[Generation] = []
        broken: list[EnvError] = []
        try:
            folders = self._folders()
        except EnvError as error:
            return [], [error]
        for folder in folders:
            try:
                good.append(Generation.load(folder))
            except EnvError as error:
                broken.append(error)
        return _by_age(good), broken

    def _folders(self) -> list[Path]:
        try:
            found = sorted(self.envs.iterdir()) if self.envs.is_dir() else []
        except OSError as error:
            raise from_os(error, "list the environments") from error
        return [folder for folder in found if folder.is_dir() and not folder.name.startswith(".")]

    def list(self) -> tuple[Generation, ...]:
        """Every generation that can be read, oldest first."""
        return self.status().generations


def _look_at(generation: Generation) -> str:
    """What is wrong with its interpreter or the sizes of its files, "" if nothing; damage is remembered."""
    broken = next((check for check in check_files(generation) if not check.ok), None)
    # An interpreter may come back with the system's next upgrade; a file of ours does not.
    if broken and broken.name == "files":
        note_damage(generation.folder, broken.evidence)
    return broken.evidence if broken else ""


def _by_age(generations: list[Generation]) -> list[Generation]:
    return sorted(generations, key=lambda generation: (generation.serial, generation.created, generation.id))


def _plain(id: str) -> bool:
    # An id comes from outside: it must name a folder here and nothing else.
    return 0 < len(id) <= _LONGEST_ID and id[0] not in ".-" and all(each.isalnum() or each in "-_." for each in id)

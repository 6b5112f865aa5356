"""A generation in the making: one folder, which is either committed whole or gone."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from env_manager import durable
from env_manager.errors import EnvError, InstallStopped, UvFailed, from_os
from env_manager.fetching.wheels import WheelSize
from env_manager.generations import BUILD_PREFIX, MANIFEST, Generation, Store
from env_manager.keeping.bytecode import SharedBytecode
from env_manager.keeping.disk import bytes_needed
from env_manager.keeping.labels import Label, checked, write_label
from env_manager.planning.interpreter import Interpreter, choose_interpreter, still_best
from env_manager.planning.plan import Plan
from env_manager.planning.resolve import Lock, is_unreachable
from env_manager.progress import Reporter
from env_manager.proving import verify
from env_manager.proving.file_record import RECORD_NAME, altered_since, take_record
from env_manager.proving.preflight import Check, check_files, probe, probes_for
from env_manager.proving.startup import startup_check
from env_manager.uv import Uv

T = TypeVar("T")


@contextmanager
def building(store: Store, report: Reporter, cancelled: Callable[[], bool]) -> Iterator[Build]:
    """A build folder that is gone at the end unless it was committed; a failure's log is kept."""
    build = Build.begin(store, report, cancelled)
    try:
        yield build
    except InstallStopped:
        raise
    except EnvError as error:
        build.keep_log(error)
        raise
    except OSError as error:
        failure = from_os(error, "write the new environment")
        build.keep_log(failure)
        raise failure from error
    finally:
        build.remove()


@dataclass
class Build:
    """A generation in the making: its folder, its uv, its log. Nothing outside the folder changes."""

    store: Store
    id: str
    folder: Path
    report: Reporter
    cancelled: Callable[[], bool]
    uv: Uv
    lock_taken_from: str | None = None  # the generation whose lock this one has
    started: float = field(default_factory=time.monotonic)
    finished: bool = False

    @classmethod
    def begin(cls, store: Store, report: Reporter, cancelled: Callable[[], bool]) -> Build:
        """Make the build folder; its name marks it as removable until the commit renames it."""
        id = time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(2)
        folder = store.envs / f"{BUILD_PREFIX}{id}"
        try:
            folder.mkdir()
            (folder / "install.log").touch()
        except OSError as error:
            raise from_os(error, "make the folder for the new environment") from error

        def log(line: str) -> None:
            with (folder / "install.log").open("a", encoding="utf-8") as out:
                out.write(line + "\n")
            report.log(line)

        return cls(store, id, folder, report, cancelled, Uv.create(store.cache, log, cancelled))

    @property
    def env(self) -> Path:
        return self.folder / "env"

    @property
    def python(self) -> Path:
        return Generation(self.id, "", self.folder, {}).python

    def phase(self, name: str, text: str) -> None:
        """Tell the next phase; every phase is also a place to stop."""
        if self.cancelled():
            raise InstallStopped()
        self.uv.log(f"== {name}: {text}")
        self.report.phase(name, text)

    def make_environment(self, versions: Sequence[str]) -> Interpreter:
        """Choose a Python of one of these versions, the first before all, and make an empty, relocatable environment."""
        self.phase("python", "Choosing a Python and making an empty environment")
        used = [each.interpreter for each in reversed(self.store.list())]
        chosen = still_best(used, versions) or choose_interpreter(self.uv, versions, self.store.pythons, self.folder)
        self.uv.log(chosen.reason)
        # Relocatable, because the commit renames the folder above it.
        self.uv.run(["venv", "env", "--relocatable", "--python", chosen.path, "--quiet"], cwd=self.folder)
        return chosen

    def or_from_cache(self, call: Callable[[], T]) -> T:
        """Do it with the index, or from the cache alone where the index is out of reach."""
        try:
            return call()
        except UvFailed as error:
            if self.uv.offline or not is_unreachable(error):
                raise
            self.uv.log(f"{error.message} Trying with what is in the cache.")
            online, self.uv = self.uv, self.uv.with_offline()
            try:
                return call()
            except UvFailed:
                self.uv = online
                raise error from None

    def require_whole(self, lock: Lock) -> None:
        """Refuse an environment that lacks what its packages name, or shares a file that was altered since it was proved.

        The next copy of those packages will be a fresh one.
        """
        damage = verify.against_records(self.env)
        site = verify.site_packages(self.env).relative_to(self.env).as_posix()
        paths = {f"{site}/{each.path}": str(each) for each in damage}
        for other, record in self._relatives(lock.sha256):
            paths |= {path: f"{path} was altered" for path in altered_since(self.env, other, record)}
        if paths:
            self.evict(sorted(set(verify.owners(self.env, list(paths)).values())))
            raise EnvError(
                "environment-torn",
                f"The new environment is not whole: {next(iter(paths.values()))} ({len(paths)} files in all).",
                "Install again: the packages concerned were taken out of the cache and will be fetched anew.",
            )

    def evict(self, packages: Sequence[str]) -> None:
        """Take packages out of the cache: what is damaged there would be linked into every new environment."""
        if packages:
            self.uv.run(["cache", "clean", *packages, "--quiet"], cwd=self.folder)

    def prove(self, plan: Plan, lock: Lock) -> list[Check]:
        """Run every probe once more in the finished environment, all together in one process."""
        optional = {each for step in plan.steps if step.optional for each in step.probe}
        checks = probe(
            self.python,
            proving(plan, lock),
            cancelled=self.cancelled,
            log=self.uv.log,
            environ=plan.torch.environ(),
        )
        failed = [check for check in checks if not check.ok and check.name not in optional]
        if failed:
            raise EnvError(
                "probe-failed",
                f"The new environment was built but {failed[0].name} does not work in it: {failed[0].evidence}",
                "The active environment was not touched. Read the installation log, then try again.",
            )
        return checks

    def commit(self, **recorded: Any) -> Generation:
        """Record, make durable, rename: from here on the generation exists and never changes."""
        for scratch in ("search.in", "exact.in", "requirements.in", "constraints.txt", "default-torch", "steps"):
            _remove(self.folder / scratch)
        size = take_record(self.env, self.folder / RECORD_NAME, self._relatives(recorded["lock_sha256"]))
        generation = Generation(
            id=self.id,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            serial=self.store.next_serial(),
            folder=self.folder,
            bytes=size,
            seconds=round(time.monotonic() - self.started, 1),
            **recorded,
        )
        files = [check.as_json() for check in (*check_files(generation), startup_check(self.env))]
        generation = replace(generation, checks=(*files, *generation.checks))
        if generation.name:
            write_label(self.folder, Label(*checked(generation.name, "")))
        durable.sync_tree(self.folder)
        durable.replace_json(self.folder / MANIFEST, generation.record())
        durable.sync_folder(self.folder)
        final = self.store.envs / self.id
        self.folder.rename(final)
        durable.sync_folder(self.store.envs)
        self.finished = True
        return replace(generation, folder=final)

    def shared_bytecode(self, lock: Lock) -> SharedBytecode:
        """Bytecode of older generations, to be shared where the sources are the same files."""
        return SharedBytecode(self.env, self._relatives(lock.sha256))

    def bytes_needed(self, lock: Lock, sizes: Mapping[str, WheelSize]) -> int:
        """Bytes that installing this lock will take on the disk."""
        compiled = {name: version for each in self.store.list()[-3:] for name, version in each.packages.items()}
        return bytes_needed(self.store.envs, self.uv.cache, lock, sizes, compiled)

    def _relatives(self, lock_sha256: str) -> list[tuple[Path, Path]]:
        """The generations most likely to share files with this one, each with its record, the likeliest first."""
        newest = list(reversed(self.store.list()))
        twins = [each for each in newest if each.lock_sha256 == lock_sha256][:1]
        # Only a few: looking through more costs more than it saves. A twin has all of it.
        return [(each.env, each.folder / RECORD_NAME) for each in twins or newest[:3]]

    def keep_log(self, error: EnvError) -> None:
        """Move the log of a failed installation out of the build folder, and name it in the error."""
        if self.finished:
            return
        kept = self.store.envs / "failed-install.log"
        try:
            (self.folder / "install.log").replace(kept)
            error.log = kept
        except OSError as keeping:
            # On a full or read-only disk the log goes too; the error itself is what counts.
            self.report.log(f"the log could not be kept: {keeping}")

    def remove(self) -> None:
        """Remove the build folder; after the commit there is none."""
        if not self.finished:
            _remove(self.folder)


def _remove(path: Path) -> None:
    if path.is_dir():
        # What cannot be removed now is removed at the next start.
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def proving(plan: Plan, lock: Lock) -> tuple[str, ...]:
    """What proves an environment: the probes of what is installed."""
    named = [each for step in plan.steps if step.requirements for each in step.probe]
    return probes_for(list(lock.versions), named)

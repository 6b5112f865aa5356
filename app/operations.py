"""Start, follow and stop long operations; the window, the server and the command line all come here."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from app import models
from app.api.schema import TrainView
from app.errors import AppError
from app.paths import Home
from app.processes import managed_environment, snapshot_trainer, spawn_detached, trainer_argv
from app.run_data import data_record
from app.standby import Standby
from app.views import Followed
from env_manager.errors import EnvError
from env_manager.generations import Generation, Store
from env_manager.proving.before_run import proved_for_run
from trainer.models.checking import check_folder
from trainer.models.folder import check_adapter, model_type
from trainer.models.hub import HUB, model_folder, pinned
from trainer.operation import LOG, RECORD, Event, Tail, ask, create, not_resumed, resume, state
from trainer.spec import RunSpec

POLL_SECONDS = 0.1


class Operations:
    """All installations and runs of one home folder, running and past."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.store = Store(home.root)
        self.store.clean()
        self.standby = Standby()
        self._followed: dict[Path, Followed] = {}
        self._children: list[subprocess.Popen[bytes]] = []
        self._reading = threading.RLock()  # routes run on many threads, and a tail has one position

    def start_install(
        self,
        overrides: dict[str, str] | None = None,
        *,
        allow_large: bool = False,
        accelerator: str | None = None,
        gpu: int | None = None,
    ) -> Followed:
        """Start an installation in its own process; raises `AppError` when one is already running."""
        return self.start_install_of(
            {"overrides": overrides or {}, "allow_large": allow_large, "accelerator": accelerator, "gpu": gpu}
        )

    def start_repair(self, generation: str | None = None, *, whole: bool = False) -> Followed:
        """Start building a damaged generation, or the active one, again from its own lock."""
        self.store.get(generation) if generation else self.installed_generation()
        return self.start_install_of({"title": "Repair environment", "repair": {"id": generation, "whole": whole}})

    def start_install_of(self, asked: Mapping[str, object]) -> Followed:
        """Start an installation of what was asked for: versions, a file or a repair (`app.installing` reads it)."""
        running = next((each for each in self.refresh() if each.record["kind"] == "install" and not each.ended), None)
        if running:
            raise AppError("install-running", "An installation is already running.", "Wait for it, or cancel it first.")
        identity = _new_id("install")
        folder = self.home.installs / identity
        create(
            folder,
            {
                "id": identity,
                "kind": "install",
                "title": "Install dependencies",
                **asked,
            },
        )
        try:
            child = spawn_detached([sys.executable, "-m", "app.installing", str(folder)], folder, dict(os.environ))
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)  # or it would look as if it were starting
            raise
        self._children.append(child)
        return self._follow(folder)

    def start_run(self, spec: RunSpec, output: Path | None = None) -> Followed:
        """Check the spec, its model and its data, then start training in the active environment.

        Raises `AppError` or `TrainError` before anything is written when the run could not succeed.
        """
        spec = models.with_names_resolved(spec)
        if spec.model.startswith(HUB):  # the run fetches it, where that can be watched and stopped
            spec = self._pinned(spec)
        else:
            check_folder(Path(spec.model), spec.trust_code)
        if spec.lora.start_from:
            check_adapter(Path(spec.lora.start_from), str(model_folder(spec.model)))
        data = data_record(spec, self.interpreter())
        generation = self.active_generation()
        identity = _new_id("run")
        folder = self._output_folder(output, identity)
        snapshot = snapshot_trainer(self.home.trainers)
        create(
            folder,
            {
                "id": identity,
                "kind": "train",
                "title": spec.name or models.title_of(spec),
                "spec": spec.model_dump(mode="json"),
                "spec_hash": spec.digest(),
                "named": models.names_of(spec),
                **data,
                "generation": generation.id,
                "lock_sha256": generation.lock_sha256,
                "trainer": snapshot.name,
                "token_cache": str(self.home.token_cache),
            },
        )
        self._spawn_run(folder, spec, generation, snapshot)
        return self._follow(folder)

    def _pinned(self, spec: RunSpec) -> RunSpec:
        """The spec with the commit that its model's revision stands for now."""
        generation = self.active_generation()
        model = pinned(spec.model, generation.python, managed_environment(generation))
        return spec.with_changes({"model": model})

    def start_after(self, run: str, asked: Mapping[str, object], train: TrainView) -> Followed:
        """Start what is done with a run's adapter after its end (`kind`: `evaluate` or `export`), in its environment."""
        generation, snapshot = self._generation_of(self.get(run)), snapshot_trainer(self.home.trainers)
        identity = _new_id(str(asked["kind"]))
        folder = self.home.runs / identity
        about = {"run": run, "run_folder": train.folder, "adapter": train.adapter, "generation": generation.id}
        spec = train.spec.model_dump(mode="json")
        create(folder, {"id": identity, **asked, **about, "spec": spec, "trainer": snapshot.name})
        argv = trainer_argv(generation.python, snapshot, str(asked["kind"]), str(folder))
        try:
            self._children.append(spawn_detached(argv, folder, managed_environment(generation)))
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)  # or it would look as if it were starting
            raise
        return self._follow(folder)

    def resume_run(self, identity: str) -> Followed:
        """Let a run go on from its newest whole checkpoint, with the code and in the environment that it began with.

        Where these are gone it goes on with those of now, and its events say what changed.
        """
        followed = self.get(identity)
        if not followed.resumable:
            raise AppError(
                "run-not-resumable",
                f"{identity} cannot go on: {followed.why_not_resumable()}.",
                "Start a new run with the same settings: `fettle runs show` names its folder and record.",
            )
        snapshot = self.home.trainers / str(followed.record["trainer"])
        if not snapshot.is_dir():
            snapshot = snapshot_trainer(self.home.trainers)
        generation = self._generation_of(followed)
        resume(followed.folder)
        try:
            spec, _ = RunSpec.recorded(followed.record["spec"])  # the trainer that it began with knows all of them
            self._spawn_run(followed.folder, spec, generation, snapshot)
        except OSError:
            not_resumed(followed.folder)
            raise
        followed.refresh()
        return followed

    def _generation_of(self, followed: Followed) -> Generation:
        """The generation that a run began in, or the active one where that was deleted or lost its interpreter."""
        try:
            generation = self.store.get(followed.record["generation"])
            generation.require_interpreter()
        except EnvError:
            return self.active_generation()
        return generation

    def _spawn_run(self, folder: Path, spec: RunSpec, generation: Generation, snapshot: Path) -> None:
        """Start the trainer, behind the checks where the environment is not proved yet."""
        if proved_for_run(generation, model_type=model_type(model_folder(spec.model))):
            argv = trainer_argv(generation.python, snapshot, "train", str(folder))
            child = self.standby.take(spec, folder, generation, snapshot) or spawn_detached(
                argv, folder, managed_environment(generation)
            )
        else:  # the checks take seconds, so they are made in the run's own process, which then becomes the trainer
            self.standby.end()
            argv = [sys.executable, "-m", "app.checking_first", str(folder), generation.id, str(snapshot)]
            child = spawn_detached(argv, folder, dict(os.environ))
        self._children.append(child)

    def idle(self) -> bool:
        """Whether no installation and no run is under way."""
        return all(each.ended for each in self.refresh())

    def generations_in_use(self) -> set[str]:
        """The generations that a run, or what is done with one, is using now."""
        return {
            each.record["generation"] for each in self.refresh() if each.record["kind"] != "install" and not each.ended
        }

    def interpreter(self) -> Path | None:
        """The active environment's interpreter; None where none is usable."""
        with suppress(AppError):
            return self.active_generation().python
        return None

    def active_generation(self) -> Generation:
        """The generation that new runs use; raises `AppError` when there is none that could run."""
        generation = self.installed_generation()
        try:
            generation.require_interpreter()
        except EnvError as error:
            raise AppError(error.code, error.message, error.remedy) from error
        return generation

    def installed_generation(self) -> Generation:
        """The active generation as it is, also one whose interpreter is gone: to look at, to repair, to export."""
        try:
            generation = self.store.active()
        except EnvError as error:
            raise AppError(error.code, error.message, error.remedy) from error
        if generation is None:
            raise AppError(
                "no-environment",
                "No environment is installed yet.",
                "Install the dependencies first: `fettle env install`.",
            )
        return generation

    def _output_folder(self, output: Path | None, identity: str) -> Path:
        """The run's folder; one outside the home folder leaves a link to itself in it."""
        if output is None:
            return self.home.runs / identity
        folder = output.expanduser().absolute()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise AppError(
                "output-not-empty",
                f"{folder} already holds something.",
                "Name a new or empty folder; nothing was changed.",
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AppError(
                "output-unwritable",
                f"{folder} cannot be made: {error.strerror}.",
                "Name a folder that you can write to.",
            ) from error
        (self.home.runs / f"{identity}.json").write_text(json.dumps({"folder": str(folder)}), encoding="utf-8")
        return folder

    def get(self, identity: str) -> Followed:
        """The operation with this id, freshly read; raises `AppError` when there is none."""
        for followed in self.refresh():
            if followed.id == identity:
                return followed
        raise AppError(
            "operation-unknown", f"There is no operation '{identity}'.", "List them with `fettle runs list`."
        )

    def pause(self, identity: str) -> Followed:
        """Ask a run to write a checkpoint at its next step and end, so that the device is free."""
        followed = self.get(identity)
        if followed.record["kind"] != "train":
            raise AppError("not-a-run", f"{identity} is no run, so it cannot pause.", "Stop it instead.")
        if not followed.ended:
            ask(followed.folder, "pause")
        return followed

    def stop(self, identity: str) -> Followed:
        """Ask an operation to end at its next step; a run keeps its adapter."""
        followed = self.get(identity)
        if not followed.ended:
            ask(followed.folder, "stop")
        return followed

    def refresh(self) -> list[Followed]:
        """Every operation, newest first, read as far as it is written; ended children are reaped."""
        with self._reading:
            self._children = [child for child in self._children if child.poll() is None]
            for folder in self._folders():
                followed = self._followed.get(folder)
                if followed is None:
                    with suppress(
                        OSError, ValueError, RecursionError
                    ):  # edited into something else: no operation that could be shown
                        self._follow(folder)
                elif not followed.ended or followed.woken():
                    followed.refresh()
            return sorted(self._followed.values(), key=lambda each: -float(each.record["created"]))

    def _follow(self, folder: Path) -> Followed:
        with self._reading:
            if folder not in self._followed:
                self._followed[folder] = Followed(folder)
            return self._followed[folder]

    def _folders(self) -> Iterator[Path]:
        for parent in (self.home.installs, self.home.runs):
            for entry in parent.iterdir():
                folder = entry
                if entry.suffix == ".json":
                    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                        folder = Path(json.loads(entry.read_text(encoding="utf-8"))["folder"])
                if (folder / RECORD).is_file():
                    yield folder


def follow_events(folder: Path) -> Iterator[Event]:
    """Every event of an operation as it is written, until its last; ends without one when the process died."""
    tail, last = Tail(folder), None
    while True:
        for event in tail.read():
            last = event
            yield event
        if state(folder, last) not in ("starting", "running"):
            # What was written between our read and our look at the lock may be the last event, or the next process's.
            rest = list(tail.read())
            yield from rest
            last = rest[-1] if rest else last
            if state(folder, last) == "crashed":
                time.sleep(POLL_SECONDS)  # the parent of a run that the system killed takes over in a moment
            if state(folder, last) not in ("starting", "running") and not tail.behind():
                return
        time.sleep(POLL_SECONDS)


def read_log(folder: Path, offset: int, most: int = 200_000, *, until: int | None = None) -> tuple[str, int]:
    """A piece of an operation's log from a byte offset, not beyond `until`, and where the next piece begins."""
    try:
        with (folder / LOG).open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            size = stream.tell() if until is None else min(stream.tell(), max(offset, until))
            start = max(offset, size - most) if offset == 0 else min(offset, size)
            stream.seek(start)
            data = stream.read(min(most, size - start))
    except FileNotFoundError:
        return "", 0
    return data.decode("utf-8", errors="replace"), start + len(data)


def _new_id(kind: str) -> str:
    return f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"

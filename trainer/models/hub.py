"""Models by their name on the hub: `hub:owner/name@revision`. Torch-free, and without the hub's own library."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from trainer.errors import TrainError
from trainer.models.checking import check_folder

HUB = "hub:"
SCRIPT = str(Path(__file__).with_name("hub_files.py"))
_NAME = re.compile(r"hub:(?P<name>\w[\w.-]*(?:/\w[\w.-]*)?)(?:@(?P<revision>\w[\w./-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def parts(model: str) -> tuple[str, str]:
    """Name and revision (`main` where none is named); raises `TrainError` for what is no name."""
    found = _NAME.fullmatch(model)
    if found is None or ".." in model:
        raise TrainError("model-name", f"{model} is no name on the hub.", "Write it as `hub:owner/name@revision`.")
    return found["name"], found["revision"] or "main"


def model_folder(model: str) -> Path:
    """Where the model's files are, or would be: a path as it is, and for a name on the hub its snapshot in the cache."""
    if not model.startswith(HUB):
        return Path(model)
    name, revision = parts(model)
    folder = _cache() / f"models--{name.replace('/', '--')}"
    commit = revision
    if not _COMMIT.fullmatch(revision):
        ref = folder / "refs" / revision
        commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
    return folder / "snapshots" / commit


def called_by(model: str) -> str:
    """What a person calls it: the last part of its name, without the revision."""
    return Path(model.partition("@")[0]).name if model.startswith(HUB) else Path(model).name


def pinned(model: str, python: Path, environment: Mapping[str, str]) -> str:
    """The model with its revision's commit, so that a run which goes on has the same base; paths as they are."""
    if not model.startswith(HUB):
        return model
    name, revision = parts(model)
    if not _COMMIT.fullmatch(revision):
        command = [str(python), "-I", SCRIPT, "commit", name, revision]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=dict(environment), check=False
        )
        revision = done.stdout.decode("utf-8", "replace").strip()
        if done.returncode or not _COMMIT.fullmatch(revision):
            raise _unfetched(model, done.stderr)
    return f"{HUB}{name}@{revision}"


class Watched(Protocol):
    """A run: it says what it is busy with, and is told when to leave."""

    def phase(self, name: str, text: str) -> None:
        """What the run is busy with."""

    def ending(self) -> str | None:
        """How it should end, if it should."""


def fetch(model: str, trust_code: str, run: Watched) -> bool:
    """Bring a pinned model into the cache where it is not whole there yet; False when it was asked to leave instead.

    Runs in the managed interpreter, whose environment says where the cache and the hub are.
    """
    if not model.startswith(HUB) or _whole(model_folder(model), trust_code):
        return True
    run.phase("fetching", f"Fetching {model.removeprefix(HUB)}")
    child = subprocess.Popen(
        [sys.executable, "-I", SCRIPT, "fetch", *parts(model)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        while child.poll() is None:
            if run.ending():
                return False
            time.sleep(0.2)
        said = child.stderr.read() if child.stderr else b""
    finally:
        child.kill()
        child.wait()
    if child.returncode:
        raise _unfetched(model, said)
    return True


def _whole(folder: Path, trust_code: str) -> bool:
    try:
        check_folder(folder, trust_code)
    except TrainError as error:
        if error.code == "model-needs-code":
            raise  # fetching it again would not change that
        return False
    return True


def _cache() -> Path:
    """The shared cache of models, as the hub's library finds it."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def _unfetched(model: str, said: bytes) -> TrainError:
    lines = said.decode("utf-8", "replace").strip().splitlines() or ["the reader of the hub gave no answer"]
    return TrainError(
        "model-unfetched",
        f"{model} cannot be fetched: {lines[-1].rstrip('.')[:300]}.",
        "Check the name, the connection and `HF_TOKEN`; offline, only what is in the cache can be used.",
    )

"""The process of one installation or repair: `python -m app.installing FOLDER`, started detached by `operations`."""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path
from typing import Any

from app.operations import Operations
from app.paths import open_home
from env_manager.errors import EnvError, InstallStopped
from env_manager.generations import Generation, Store
from env_manager.install import install
from env_manager.keeping.removal import keep_policy, prune
from env_manager.planning.torch_index import Asked
from env_manager.progress import StepProgress
from env_manager.repair import repair
from env_manager.sharing.exchange import read_recipe
from trainer.operation import LOG, Operation, read_record

SECONDS_BETWEEN = 0.2  # a step tells its bytes no more often than this


class Events:
    """The installation's progress as events of its operation; log lines go to the operation's log."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._last = (0.0, "", "")

    def phase(self, name: str, text: str) -> None:
        """A new part of the installation."""
        self._operation.emit("phase", phase=name, text=text)

    def step(self, progress: StepProgress) -> None:
        """A step's newest figures; every change of state is told, bytes in between are thinned out."""
        told, step, state = self._last
        now = time.monotonic()
        if (step, state) == (progress.id, progress.state) and now - told < SECONDS_BETWEEN:
            return
        self._last = (now, progress.id, progress.state)
        self._operation.emit("progress", step=progress.as_json(), log=self._log_bytes())

    def _log_bytes(self) -> int | None:
        """How long the log is by now: where a step begins or ends in it."""
        try:
            return (self._operation.folder / LOG).stat().st_size
        except FileNotFoundError:
            return None

    def log(self, line: str) -> None:
        """One line of the log."""
        print(line, flush=True)


def main(folder: Path) -> int:
    """Install, and end with exactly one final event; returns the exit status."""
    with Operation(folder) as operation:
        operation.emit("hello", executable=sys.executable)
        asked = read_record(folder)
        try:
            generation = _install_or_repair(operation, asked)
        except InstallStopped:
            operation.emit("stopped")
            return 1
        except EnvError as error:
            operation.emit("failed", code=error.code, message=error.message, remedy=error.remedy)
            return 1
        except Exception as error:  # the last barrier: an installation never ends without a final event
            traceback.print_exc()
            operation.emit(
                "failed",
                code="install-failed",
                message=f"The installation ended unexpectedly: {error}",
                remedy="The active environment is unchanged. The log holds the details.",
            )
            return 1
        for note in generation.plan.get("notes", ()):
            operation.emit("warning", message=note)
        _keep_policy(operation)
        operation.emit("done", generation=generation.id)
        return 0


def _install_or_repair(operation: Operation, asked: dict[str, Any]) -> Generation:
    store, report = Store(open_home().root), Events(operation)

    def cancelled() -> bool:
        return operation.requested("stop")

    if "repair" in asked:
        what = asked["repair"]
        return repair(store, what["id"], report=report, cancelled=cancelled, whole=what["whole"]).generation
    return install(
        store,
        report=report,
        cancelled=cancelled,
        overrides=asked.get("overrides"),
        allow_large=asked.get("allow_large", False),
        asked=Asked.of(asked.get("accelerator"), asked.get("gpu")),
        preferred=asked.get("preferred"),
        recipe=read_recipe(Path(asked["import_from"])) if "import_from" in asked else None,
    )


def _keep_policy(operation: Operation) -> None:
    """Delete what the user's policy does not keep; a failure there does not undo a good installation."""
    operations = Operations(open_home())
    keep = keep_policy(operations.store)
    if keep is None:
        return
    try:
        gone = prune(operations.store, keep, in_use=operations.generations_in_use(), with_cache=True)
    except EnvError as error:
        operation.emit("warning", message=f"Older environments were not deleted: {error.message}")
        return
    if gone.generations:
        print(f"deleted by the keep policy: {', '.join(gone.generations)}", flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

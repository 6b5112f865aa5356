"""The process of a run whose environment is not proved yet: `python -m app.checking_first FOLDER GENERATION SNAPSHOT`.

It makes the checks, refuses the run where one fails, and otherwise becomes the trainer.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from app.checking import action_of
from app.paths import open_home
from app.processes import managed_environment, trainer_argv
from env_manager.diagnosing.diagnosis import Finding, diagnose
from env_manager.errors import EnvError, InstallStopped
from env_manager.generations import Generation, Store
from env_manager.proving.before_run import check_before_run
from trainer.models.folder import model_type
from trainer.models.hub import model_folder
from trainer.operation import HANDOVER, Operation, ask, read_record


def main(folder: Path, generation_id: str, snapshot: Path) -> int:
    """Check, then train; returns the exit status where the checks ended it."""
    signal.signal(signal.SIGTERM, lambda *_: ask(folder, "pause"))
    home, record = open_home(), read_record(folder)
    store = Store(home.root)
    with Operation(folder) as operation:
        operation.emit("phase", phase="preflight", text="Checking the environment")
        try:
            generation = store.get(generation_id)
            found = _unfit(generation, record, operation)
        except InstallStopped:
            operation.emit("stopped" if operation.requested("stop") else "paused", adapter=None, train_seconds=0.0)
            return 1
        except EnvError as error:
            operation.emit("failed", code=error.code, message=error.message, remedy=error.remedy)
            return 1
        except Exception as error:  # the last barrier: a run never ends without a final event
            traceback.print_exc()
            operation.emit(
                "failed",
                code="run-failed",
                message=f"The checks before the run ended unexpectedly: {error}",
                remedy="The run's log holds the details.",
            )
            return 1
        if found:
            code = "model-type-unknown" if found.name == "model-type-unknown" else "environment-unfit"
            message = f"{found.cause} {found.evidence.splitlines()[0][:300]}"
            action = action_of(found, can_go_back=store.status().previous is not None)
            operation.emit("failed", code=code, message=message, remedy=found.remedy, action=action)
            return 1
        operation.emit("phase", phase=HANDOVER, text="Starting the trainer")
    argv = trainer_argv(generation.python, snapshot, "train", str(folder))
    return _become(argv, managed_environment(generation))


def _unfit(generation: Generation, record: dict[str, Any], operation: Operation) -> Finding | None:
    """Why the environment is not fit for this run, or None where every check holds."""
    checks = check_before_run(
        generation,
        model_type=model_type(model_folder(record["spec"]["model"])),
        cancelled=lambda: operation.requested("stop") or operation.requested("pause"),
        log=lambda line: print(line, flush=True),
    )
    return None if all(each.ok for each in checks) else diagnose(generation, checks=checks, full=False)[0]


def _become(argv: list[str], env: dict[str, str]) -> int:
    sys.stdout.flush()
    if sys.platform == "win32":  # there a process cannot become another one
        return subprocess.call(argv, env=env, stdin=subprocess.DEVNULL)
    os.execve(argv[0], argv, env)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))

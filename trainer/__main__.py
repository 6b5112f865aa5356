"""Entry of the managed interpreter: `train`, `evaluate` or `export FOLDER`, `standby`, `worker`, or `versions`."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from trainer.errors import TrainError
from trainer.operation import Operation, read_record
from trainer.restarting import supervise

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status."""
    match arguments:
        case ["train", folder]:
            return supervise(Path(folder), partial(_train_in, Path(folder)))
        case ["standby"]:
            from trainer.standby import stand_by

            return stand_by(_train_in)
        case [("evaluate" | "export") as kind, folder]:
            return _operate(Path(folder), partial(_after, kind))
        case ["worker"]:
            from trainer.worker import serve

            return serve()
        case ["versions"]:
            from trainer.report import versions

            print(json.dumps(versions()))
            return 0
    print("usage: train FOLDER | evaluate FOLDER | export FOLDER | standby | worker | versions", file=sys.stderr)
    return 2


def _operate(folder: Path, work: Callable[[Operation], None]) -> int:
    """Do the work of an operation, and turn whatever goes wrong into one `failed` event; details go to the log."""
    with Operation(folder) as operation:
        try:
            work(operation)
            return 0
        except TrainError as error:
            problem = error
        except MemoryError:
            problem = TrainError(
                "out-of-memory", "The machine ran out of memory.", "Lower the batch size or the longest row."
            )
        except Exception as error:  # the last barrier: a run never ends without a final event
            traceback.print_exc()
            problem = _unexpected(error)
        operation.emit("failed", code=problem.code, message=problem.message, remedy=problem.remedy)
        return 1


def _train_in(folder: Path) -> int:
    return _operate(folder, _train)


def _train(operation: Operation) -> None:
    from pydantic import ValidationError

    from trainer.needs import leave_out_bitsandbytes, needs_bitsandbytes
    from trainer.spec import RunSpec

    try:
        spec = RunSpec.model_validate(read_record(operation.folder)["spec"])
    except ValidationError as error:
        raise TrainError(
            "spec-invalid",
            f"The run's settings are not valid: {error.errors()[0]['msg']}.",
            "Start the run again from this version.",
        ) from error
    if not needs_bitsandbytes(spec):
        leave_out_bitsandbytes()
    _loaded("trainer.loop").train(operation, spec)


def _after(kind: str, operation: Operation) -> None:
    if kind == "export":
        _loaded("trainer.export.merged").export_merged(operation)
    else:
        _loaded("trainer.evaluation.again").judge_again(operation)


def _loaded(module: str) -> Any:
    """A module that brings torch; raises `TrainError` where the environment cannot load it."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # a broken library raises OSError while it is loaded
        traceback.print_exc()
        raise TrainError(
            "environment-broken",
            f"The environment cannot load its libraries: {_first_line(error)}",
            "Roll back, or install the dependencies again.",
        ) from error


def _unexpected(error: Exception) -> TrainError:
    if type(error).__name__ == "OutOfMemoryError":
        return TrainError("out-of-memory", "The GPU ran out of memory.", "Lower the batch size or the longest row.")
    return TrainError(
        "run-failed", f"The run ended unexpectedly: {_first_line(error)}", "The run's log holds the details."
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


def start() -> NoReturn:
    """Called by the snapshot's entry file."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    start()

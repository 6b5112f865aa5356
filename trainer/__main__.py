"""Entry of the managed interpreter: `train FOLDER`, `worker`, or `versions`."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from trainer.errors import TrainError
from trainer.operation import Operation, read_record

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status."""
    match arguments:
        case ["train", folder]:
            return _train(Path(folder))
        case ["worker"]:
            from trainer.worker import serve

            return serve()
        case ["versions"]:
            from trainer.report import versions

            print(json.dumps(versions()))
            return 0
    print("usage: train FOLDER | worker | versions", file=sys.stderr)
    return 2


def _train(folder: Path) -> int:
    """Train, and turn whatever goes wrong into one `failed` event; details go to the log."""
    with Operation(folder) as operation:
        try:
            problem = _run(operation)
        except TrainError as error:
            problem = error
        except MemoryError:
            problem = TrainError(
                "out-of-memory", "The machine ran out of memory.", "Lower the batch size or the longest row."
            )
        except Exception as error:  # the last barrier: a run never ends without a final event
            traceback.print_exc()
            problem = _unexpected(error)
        if problem is None:
            return 0
        operation.emit("failed", code=problem.code, message=problem.message, remedy=problem.remedy)
        return 1


def _run(operation: Operation) -> TrainError | None:
    from pydantic import ValidationError

    from trainer.spec import RunSpec

    try:
        spec = RunSpec.model_validate(read_record(operation.folder)["spec"])
    except ValidationError as error:
        return TrainError(
            "spec-invalid",
            f"The run's settings are not valid: {error.errors()[0]['msg']}.",
            "Start the run again from this version.",
        )
    try:
        from trainer.loop import train
    except (ImportError, OSError) as error:  # a broken library raises OSError while it is loaded
        traceback.print_exc()
        return TrainError(
            "environment-broken",
            f"The environment cannot load its libraries: {_first_line(error)}",
            "Roll back, or install the dependencies again.",
        )
    train(operation, spec)
    return None


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

"""What is done with a run after its end: judged again, its adapter copied, its adapter merged into the base."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from app.api.schema import TrainView
from app.api.schema_after import JudgeRequest, MergeRequest
from app.errors import AppError
from app.models import with_data_resolved
from app.operations import Operations
from app.terminal import size
from app.views import Followed
from trainer.data.readers.opening import look
from trainer.data.sources import find
from trainer.models.hub import model_folder
from trainer.models.weights import read_weights
from trainer.spec import Data

ROOM = 1.05  # times the weights, for what else is written


def start_evaluation(operations: Operations, run: str, asked: JudgeRequest) -> Followed:
    """Judge a run's adapter once more, in a process of its own; raises `AppError` or `TrainError` where it has none, or the rows are not there."""
    train = _with_adapter(operations, run)
    title = f"Judge {operations.get(run).record['title']}"
    data = with_data_resolved(Data(train=asked.data)).train if asked.data else None
    if data and (source := find(data)).path and not source.of_classes:
        look(source.path)
    return operations.start_after(run, {"kind": "evaluate", "title": title, "data": data, "rows": asked.rows}, train)


def start_merge(operations: Operations, run: str, asked: MergeRequest) -> Followed:
    """Merge a run's adapter into its base, in a process of its own.

    Raises `AppError` before anything is written where the folder holds something, or the disk lacks the room.
    """
    train = _with_adapter(operations, run)
    output = _folder(asked.output) if asked.output else Path(train.folder) / "merged"
    require_free(output)
    require_room(output, merged_bytes(model_folder(train.spec.model), asked.precision) * ROOM)
    title = f"Merge {operations.get(run).record['title']}"
    wanted = {"kind": "export", "title": title, "output": str(output), "precision": asked.precision}
    return operations.start_after(run, wanted, train)


def copy_adapter(operations: Operations, run: str, output: Path) -> Path:
    """Copy a run's adapter into a new folder, which is there whole or not at all."""
    train = _with_adapter(operations, run)
    output = _folder(str(output))
    require_free(output)
    files = [file for file in Path(str(train.adapter)).iterdir() if file.is_file()]
    require_room(output, sum(file.stat().st_size for file in files))
    partial = output.with_name(f"{output.name}.part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for file in files:
            shutil.copyfile(file, partial / file.name)
        if output.exists():
            output.rmdir()
        partial.rename(output)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise AppError(
            "output-unwritable",
            f"{output} cannot be written: {error.strerror}.",
            "Name a folder that you can write to.",
        ) from error
    return output


def require_free(output: Path) -> None:
    """Raise `AppError` unless the folder is new or empty; makes the folders above it."""
    try:
        if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
            raise AppError(
                "output-not-empty",
                f"{output} already holds something.",
                "Name a new or empty folder; nothing was changed.",
            )
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AppError(
            "output-unwritable",
            f"{output} cannot be made: {error.strerror}.",
            "Name a folder that you can write to.",
        ) from error


def require_room(output: Path, needed: float) -> None:
    """Raise `AppError` where so many bytes do not fit onto the disk."""
    free = shutil.disk_usage(output.parent).free
    if needed > free:
        raise AppError(
            "disk-full",
            f"{output} would take {size(needed)}, and {size(free)} are free there.",
            "Free some space, or name a folder on another disk.",
        )


def merged_bytes(base: Path, precision: str | None) -> int:
    """What merged weights take; without a precision they are as the base's."""
    if precision is None:
        return sum(file.stat().st_size for file in base.glob("*.safetensors"))
    return sum(map(math.prod, read_weights(base).shapes.values())) * (4 if precision == "fp32" else 2)


def _folder(path: str) -> Path:
    return Path(path).expanduser().absolute()


def _with_adapter(operations: Operations, run: str) -> TrainView:
    train = operations.get(run).view().train
    if train is None or train.adapter is None or not Path(train.adapter).is_dir():
        raise AppError(
            "adapter-missing", f"{run} has no adapter.", "Choose a run that finished, or was stopped and saved."
        )
    return train

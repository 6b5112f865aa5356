"""Write an adapter so that it is there whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

from trainer.errors import TrainError
from trainer.tensor_files import system_errors


def save_adapter(model: Any, tokenizer: Any, folder: Path) -> Path:
    """Write `folder/adapter` in PEFT's format with tokenizer and chat template; returns its path."""
    adapter, partial = folder / "adapter", folder / "adapter.part"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        with system_errors():
            model.save_pretrained(partial, safe_serialization=True)
        tokenizer.save_pretrained(partial)
        for file in partial.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        shutil.rmtree(adapter, ignore_errors=True)
        os.replace(partial, adapter)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise TrainError(
                "disk-full",
                f"The disk is full; the adapter could not be written to {folder}.",
                "Free some space and let the run go on: its last checkpoint is kept.",
            ) from error
        raise TrainError(
            "write-failed",
            f"The adapter could not be written to {folder}: {error.strerror}.",
            "Check the folder's permissions.",
        ) from error
    return adapter

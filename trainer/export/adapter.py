"""Write an adapter so that it is there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainer.checkpoints import is_full
from trainer.errors import TrainError
from trainer.export.agreement import Agreement
from trainer.export.card import CARD, SPECIFICATION, card, specification
from trainer.export.origin import Origin
from trainer.spec import RunSpec
from trainer.tensor_files import system_errors
from trainer.vision.sight import Sight


def save_adapter(model: Any, tokenizer: Any, run: Path, spec: RunSpec, sight: Sight | None = None) -> Path:
    """Write `run/adapter` in PEFT's format with tokenizer, chat template, card and specification; returns its path."""

    def fill(folder: Path) -> None:
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        if sight:
            sight.processor.save(folder)
        origin = Origin.of(run, spec)
        (folder / SPECIFICATION).write_text(specification(origin), encoding="utf-8")
        (folder / CARD).write_text(card(origin), encoding="utf-8")

    remedy = "Free some space and let the run go on: its last checkpoint is kept."
    return write_whole(run / "adapter", fill, "adapter", remedy, replace=True)


def describe(adapter: Path, run: Path, spec: RunSpec, proof: Agreement | None) -> None:
    """Write the card again, now that the results are known; where that fails, the first one stays."""
    partial = adapter / f"{CARD}.part"
    with suppress(OSError):
        note = f"Read back from disk after training: {proof}." if proof else ""
        partial.write_text(card(Origin.of(run, spec), note), encoding="utf-8")
        os.replace(partial, adapter / CARD)


def write_whole(target: Path, fill: Callable[[Path], None], what: str, remedy: str, *, replace: bool) -> Path:
    """Have a folder filled aside, made durable, and renamed to `target`; with `replace`, in place of one that is there.

    Raises `TrainError` where that fails, and leaves what was there. `remedy` is what to do when the disk is full.
    """
    partial = target.with_name(f"{target.name}.part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        with system_errors():
            fill(partial)
        for file in partial.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        if replace:
            shutil.rmtree(target, ignore_errors=True)
        elif target.exists():
            target.rmdir()  # an empty one; anything else is somebody's
        os.replace(partial, target)
    except OSError as error:
        if is_full(error):
            raise TrainError(
                "disk-full", f"The disk is full; the {what} could not be written to {target.parent}.", remedy
            ) from error
        raise TrainError(
            "write-failed",
            f"The {what} could not be written to {target.parent}: {error.strerror or error}.",
            "Check the folder's permissions.",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target

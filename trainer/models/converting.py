"""A copy of a model with safetensors in place of pickles, made by a process that lets the pickles call nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from trainer.errors import TrainError
from trainer.models.folder import read_config
from trainer.models.weights import read_weights

SCRIPT = str(Path(__file__).with_name("pickled.py"))
REFUSED = 3  # the script's exit status when it has said why
LEFT_BEHIND = (".bin", ".pt", ".pth", ".ckpt", ".safetensors", ".msgpack", ".h5", ".onnx", ".bin.index.json")


def convert(python: Path, folder: Path, output: Path, environment: Mapping[str, str]) -> None:
    """Write the whole model to a new folder, or nothing; raises `TrainError` for pickles that are more than weights."""
    read_config(folder)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise TrainError("output-not-empty", f"{output} already holds something.", "Name a new or empty folder.")
    partial = output.with_name(f".{output.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for file in folder.iterdir():
            if file.is_file() and not file.name.endswith(LEFT_BEHIND):
                shutil.copyfile(file, partial / file.name)
        _run([str(python), "-I", SCRIPT, str(folder), str(partial)], folder, environment)
        read_weights(partial)
        if output.exists():
            output.rmdir()
        os.replace(partial, output)
    except OSError as error:
        raise TrainError(
            "write-failed", f"{output} cannot be written: {error.strerror}.", "Free some space, or name another folder."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=dict(environment), check=False)
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or [""]
    if done.returncode == REFUSED:
        raise TrainError(
            "model-pickle-refused",
            f"{lines[-1]}; nothing was run and nothing converted.",
            "Choose a model saved as safetensors.",
        )
    if done.returncode:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}: {lines[-1][:200]}"
        raise TrainError(
            "model-pickle-refused",
            f"{folder.name} was not converted; its reader ended with {how}.",
            "Choose a model saved as safetensors, or close programs that take memory.",
        )

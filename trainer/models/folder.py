"""Whether a folder is a model that can be tuned. Torch-free: asked before anything is loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path

from trainer.errors import TrainError


def check_folder(folder: Path) -> None:
    """Raise `TrainError` unless the folder looks like a model that needs no code of its own."""
    config = folder / "config.json"
    if not config.is_file():
        raise TrainError(
            "model-missing",
            f"There is no model at {folder}.",
            "Choose a folder that holds `config.json` and safetensors weights.",
        )
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainError("model-invalid", f"{config} is not valid JSON.", "Fetch the model again.") from error
    if "auto_map" in content:
        raise TrainError(
            "model-needs-code",
            f"{folder.name} wants to run code from its own folder.",
            "Choose a model that transformers knows by itself.",
        )
    if not any(folder.glob("*.safetensors")):
        raise TrainError(
            "model-weights", f"{folder.name} holds no safetensors weights.", "Choose a model saved as safetensors."
        )


def model_type(folder: Path) -> str | None:
    """The architecture by the name that transformers knows it by; None where the folder does not tell."""
    try:
        told = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return None
    return told if isinstance(told, str) and re.fullmatch(r"[\w.-]+", told) else None

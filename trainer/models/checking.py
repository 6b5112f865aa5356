"""Whether a folder is a model that can be tuned. Torch-free: asked before anything is loaded."""

from __future__ import annotations

from pathlib import Path

from trainer.errors import TrainError
from trainer.models.fitting import check_config
from trainer.models.folder import read_config
from trainer.models.weights import read_weights


def check_folder(folder: Path) -> None:
    """Raise `TrainError` unless the folder holds a whole model that needs no code of its own."""
    config = read_config(folder)
    if "auto_map" in config:
        raise TrainError(
            "model-needs-code",
            f"{folder.name} wants to run code from its own folder.",
            "Choose a model that transformers knows by itself.",
        )
    if not any(folder.glob("*.safetensors")):
        raise TrainError(
            "model-weights", f"{folder.name} holds no safetensors weights.", "Choose a model saved as safetensors."
        )
    check_config(folder, config, read_weights(folder))

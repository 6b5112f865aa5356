"""Whether a folder is a model that can be tuned. Torch-free: asked before anything is loaded."""

from __future__ import annotations

from pathlib import Path

from trainer.errors import TrainError
from trainer.models.code import check_code
from trainer.models.fitting import check_config
from trainer.models.folder import read_config
from trainer.models.weights import read_weights


def check_folder(folder: Path, trust_code: str = "") -> None:
    """Raise `TrainError` unless the folder holds a whole model, and no code but that of the trusted fingerprint."""
    config = read_config(folder)
    check_code(folder, config, trust_code)
    if not any(folder.glob("*.safetensors")):
        if any(folder.glob("*.bin")):
            raise TrainError(
                "model-pickled",
                f"The weights of {folder.name} are pickled, and a pickle can run code when it is loaded.",
                f"Convert them, in a process that lets them call nothing: `fettle model convert {folder} --output NEW`.",
            )
        raise TrainError(
            "model-weights", f"{folder.name} holds no safetensors weights.", "Choose a model saved as safetensors."
        )
    check_config(folder, config, read_weights(folder))

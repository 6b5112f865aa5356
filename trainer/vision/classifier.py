"""How a model that tells classes apart takes pictures, and what it leaves beside its adapter."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transformers.models.auto.image_processing_auto import AutoImageProcessor  # the package itself wants torchvision

from trainer.errors import TrainError

PROCESSOR = "preprocessor_config.json"


def load_processor(folder: Path) -> Any:
    """What makes pictures into tensors, as the folder says; raises `TrainError` where it does not."""
    if not (folder / PROCESSOR).is_file():
        raise TrainError(
            "processor-missing",
            f"{folder.name} is a model that sees, but has no `{PROCESSOR}`, so nobody knows how it takes pictures.",
            "Fetch the model again, with all its files.",
        )
    try:
        return AutoImageProcessor.from_pretrained(folder, backend="pil")
    except (KeyError, ImportError, TypeError, ValueError, AttributeError, OSError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise TrainError(
            "processor-unknown",
            f"The processor of {folder.name} cannot be used: {reason}",
            "Choose a model of one of the families in docs/models.md.",
        ) from error


class Beside:
    """What lies beside an adapter: a configuration that names its classes, and how the model takes pictures."""

    def __init__(self, model: Any, folder: Path) -> None:
        self._config, self._folder = model.config, folder

    def save_pretrained(self, adapter: Path) -> None:
        """Write both, by the name that tokenizers have for it."""
        self._config.save_pretrained(adapter)
        shutil.copy(self._folder / PROCESSOR, adapter)

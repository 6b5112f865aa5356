"""What a model's or an adapter's folder says of itself. Torch-free: asked before anything is loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from trainer.errors import TrainError

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json; raises `TrainError` when there is none, or it is no JSON object."""
    config = folder / "config.json"
    if not config.is_file():
        raise TrainError(
            "model-missing",
            f"There is no model at {folder}.",
            "Choose a folder that holds `config.json` and safetensors weights.",
        )
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise TrainError("model-invalid", f"{config} is not valid JSON.", "Fetch the model again.") from error
    if not isinstance(content, dict):
        raise TrainError("model-invalid", f"{config} is no JSON object.", "Fetch the model again.")
    return content


def stored_in_bf16(folder: Path) -> bool:
    """Whether the weights are stored in bf16, as those of most published models are."""
    config = read_config(folder)
    return "bfloat16" in (config.get("dtype"), config.get("torch_dtype"))


def check_adapter(folder: Path, model: str) -> None:
    """Raise `TrainError` unless the folder holds a LoRA adapter that was trained on a model of this name."""
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise TrainError(
                "adapter-missing",
                f"There is no {name} in {folder}.",
                "Choose a run's `adapter` folder, or one of PEFT's.",
            )
    try:
        told = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        kind, base = str(told["peft_type"]), str(told.get("base_model_name_or_path") or "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainError(
            "adapter-mismatch", f"{folder / ADAPTER_CONFIG} is not PEFT's.", "Fetch the adapter again."
        ) from error
    if kind != "LORA":
        raise TrainError("adapter-mismatch", f"The adapter in {folder} is {kind}, not LoRA.", "Choose a LoRA adapter.")
    if base and not _names(base) & _names(model):
        raise TrainError(
            "adapter-mismatch",
            f"The adapter in {folder} was trained on {Path(base).name}, and this model is {Path(model).name}.",
            f"Choose that model; if it is the same, correct the name in {ADAPTER_CONFIG}.",
        )


def _names(model: str) -> set[str]:
    """What a model is called whatever folder it lies in: its own name, and of a snapshot that of its repository."""
    parts = Path(model).parts
    repository = parts[-3].rpartition("--")[2] if len(parts) > 2 and parts[-2] == "snapshots" else ""
    return {Path(model).name, repository} - {""}


def model_type(folder: Path) -> str | None:
    """The architecture by the name that transformers knows it by; None where the folder does not tell."""
    try:
        told = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return None
    return told if isinstance(told, str) and re.fullmatch(r"[\w.-]+", told) else None

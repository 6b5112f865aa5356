"""Load a causal language model from a local folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from trainer.errors import TrainError
from trainer.models.folder import check_folder


def load_base(folder: Path, dtype: torch.dtype) -> Any:
    """The folder's causal language model with frozen weights; no code in the folder is ever run."""
    check_folder(folder)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=False, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise _unloadable(folder, error) from error
    return model.requires_grad_(False)


def _unloadable(folder: Path, error: Exception) -> TrainError:
    reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    return TrainError(
        "model-invalid",
        f"The model in {folder} cannot be loaded: {reason}",
        "Check that the folder is complete, or fetch it again.",
    )

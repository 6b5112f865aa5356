"""Load a causal language model from a local folder, and put an adapter on it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from trainer.errors import TrainError
from trainer.models.folder import check_folder
from trainer.spec import Lora


def load_base(folder: Path, dtype: torch.dtype) -> Any:
    """The folder's causal language model with frozen weights; no code in the folder is ever run."""
    check_folder(folder)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=False, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise _unloadable(folder, error) from error
    return model.requires_grad_(False)


def with_lora(model: Any, lora: Lora) -> PeftModel:
    """The model with a fresh adapter on the named layers; raises `TrainError` when none is reached."""
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except (ValueError, re.error) as error:
        raise TrainError(
            "lora-targets",
            f"No layer can be adapted with target_modules {lora.target_modules!r}.",
            "Use `all-linear`, or mend the expression.",
        ) from error


def _unloadable(folder: Path, error: Exception) -> TrainError:
    reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    return TrainError(
        "model-invalid",
        f"The model in {folder} cannot be loaded: {reason}",
        "Check that the folder is complete, or fetch it again.",
    )

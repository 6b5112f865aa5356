"""Load a causal language model from a local folder, and put an adapter on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from trainer.errors import TrainError
from trainer.models.coverage import Coverage, measure
from trainer.models.folder import check_folder
from trainer.models.parts import units
from trainer.models.targets import resolve
from trainer.spec import Lora


def load_base(folder: Path, dtype: torch.dtype) -> Any:
    """The folder's causal language model with frozen weights; no code in the folder is ever run."""
    check_folder(folder)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=False, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise _unloadable(folder, error) from error
    return model.requires_grad_(False)


@dataclass(frozen=True)
class Adapted:
    """A model with its adapter, what that reaches, and what a person should know of it."""

    model: PeftModel
    coverage: Coverage
    why: str
    warnings: list[str]


def with_lora(model: Any, lora: Lora) -> Adapted:
    """The model with a fresh adapter on the named layers; raises `TrainError` where request and reality differ."""
    found = units(model)
    targets = resolve(model, found, lora.target_modules)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets.modules,
        target_parameters=targets.parameters or None,
        exclude_modules=targets.excluded or None,
        task_type="CAUSAL_LM",
    )
    try:
        adapted = get_peft_model(model, config)
    except (ValueError, re.error) as error:
        raise _unadaptable(lora, error) from error
    reached = measure(adapted, found)
    reached.require(targets.expected)
    frozen = reached.frozen_experts()
    why = "; ".join([f"adapted layers: {lora.target_modules}", *targets.why])
    return Adapted(adapted, reached, why, [frozen] if frozen else [])


def _unadaptable(lora: Lora, error: Exception) -> TrainError:
    if "ParamWrapper" in str(error):  # the experts are one tensor, on which PEFT can put nothing but a plain adapter
        return TrainError(
            "lora-experts",
            "This model's experts are fused into one tensor, whose adapter takes no `lora.dropout`.",
            "Set `lora.dropout` to 0, or adapt `attention` only.",
        )
    return TrainError(
        "lora-targets",
        f"No layer can be adapted with target_modules {lora.target_modules!r}.",
        "Use `all-linear`, or mend the expression.",
    )


def _unloadable(folder: Path, error: Exception) -> TrainError:
    reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    return TrainError(
        "model-invalid",
        f"The model in {folder} cannot be loaded: {reason}",
        "Check that the folder is complete, or fetch it again.",
    )

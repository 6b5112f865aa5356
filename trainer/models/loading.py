"""Load a model from a local folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForImageTextToText,
    BitsAndBytesConfig,
)

from trainer.errors import TrainError
from trainer.models.checking import check_folder
from trainer.models.code import wants_code
from trainer.models.folder import read_config
from trainer.models.parts import CLASSIFIER
from trainer.models.task import own_classes
from trainer.vision import sees
from trainer.vision.head import named, renew_head

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def load_base(
    folder: Path,
    dtype: torch.dtype,
    quantise: str = "none",
    device: str = "cpu",
    trust_code: str = "",
    classes: Sequence[str] = (),
) -> Any:
    """The folder's causal language model with frozen weights; with `classes`, one with a head that tells them apart.

    `quantise` is `none`, `4bit` (NF4) or `8bit`, which loads it onto the device at once. Code in the folder is run
    only where `trust_code` is its fingerprint.
    """
    check_folder(folder, trust_code)
    packed = (
        {}
        if quantise == "none"
        else {"quantization_config": _packing(quantise, dtype), "device_map": {"": 0 if device == "cuda" else device}}
    )
    config = read_config(folder)
    kind = AutoModelForImageTextToText if sees(config) else AutoModelForCausalLM
    if classes:
        kind, packed = AutoModelForImageClassification, named(classes)
    try:
        model, found = kind.from_pretrained(
            folder,
            dtype=dtype,
            trust_remote_code=wants_code(config),
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **packed,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise _unloadable(folder, error) from error
    _require_all(folder, found, f"{CLASSIFIER}." if classes else None)
    if classes and own_classes(config) != tuple(classes):
        renew_head(model)
    for module in model.modules():
        # On some CPUs bitsandbytes would round the scales of 4-bit weights, for good, when a layer is first judged.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model.requires_grad_(False)


def _packing(quantise: str, dtype: torch.dtype) -> BitsAndBytesConfig:
    try:
        import bitsandbytes  # noqa: F401 - transformers would say less of why it does not load
    except (ImportError, OSError, RuntimeError) as error:
        raise TrainError(
            "quantise-unavailable",
            f"`quantise` {quantise} needs bitsandbytes, which does not load here: {error}.",
            "Set `quantise` to `none`, or install the dependencies again.",
        ) from error
    if quantise == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def _require_all(folder: Path, found: dict[str, Any], head: str | None) -> None:
    """Raise `TrainError` where weights had to be made up, or the file holds whole layers that the model has not.

    A `head` for classes may be new, and leaves out what the model knows of text.
    """
    # Some models carry constants or the heads of other tasks beside; a layer's own matrices are no such things.
    unexpected = [key for key in found["unexpected_keys"] if re.search(r"\.(layers|h|blocks)\.\d+\..*\.weight$", key)]
    missing = [*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])]
    if head:
        unexpected = [key for key in unexpected if not key.startswith("text_model.")]
        missing = [key for key in missing if not key.startswith(head)]
    for keys, said in ((missing, "lack"), (unexpected, "also hold")):
        if keys:
            names = ", ".join(sorted(keys)[:3])
            raise TrainError(
                "model-mismatch",
                f"The weights in {folder.name} {said} {len(keys)} tensors that its config.json speaks of otherwise, as {names}.",
                "Fetch the model again: its configuration and its weights are of different models.",
            )


def _unloadable(folder: Path, error: Exception) -> TrainError:
    reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    return TrainError(
        "model-invalid",
        f"The model in {folder} cannot be loaded: {reason}",
        "Check that the folder is complete, or fetch it again.",
    )

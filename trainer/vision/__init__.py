"""Pictures: read, made into what a model takes, and trained on."""

from __future__ import annotations

from typing import Any

FAMILIES = (
    "llava", "idefics3", "smolvlm", "gemma3", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "mistral3",
)  # fmt: skip
CLASSIFIERS = ("vit", "dinov2", "swin", "convnext", "convnextv2", "siglip")


def sees(config: dict[str, Any]) -> bool:
    """Whether a model of this configuration takes pictures beside text."""
    return config.get("model_type") in FAMILIES and "vision_config" in config


def classifies(config: dict[str, Any]) -> bool:
    """Whether a model of this configuration takes pictures alone, and tells classes of them apart."""
    return config.get("model_type") in CLASSIFIERS

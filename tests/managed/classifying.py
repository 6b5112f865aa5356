"""Tiny random models of each family that tells classes of pictures apart, and pictures for them, made on the spot."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification

SIZE = {"height": 32, "width": 32}
EDGE = {"shortest_edge": 32}
BLOCKS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
PATCHES = {**BLOCKS, "image_size": 32, "patch_size": 8}
STAGES = {"num_stages": 2, "hidden_sizes": [16, 32], "depths": [1, 1], "patch_size": 4, "image_size": 32}
SIGLIP = {
    "vision_config": PATCHES,
    "text_config": {**BLOCKS, "vocab_size": 64, "max_position_embeddings": 16},
}
SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}

# Of each family: the sizes of its model, and its picture part with what that is told.
FAMILIES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "vit": (PATCHES, "vit", {"size": SIZE}),
    "dinov2": (PATCHES, "bit", {"size": EDGE, "crop_size": SIZE}),
    "swin": (SWIN, "vit", {"size": SIZE}),
    "convnext": (STAGES, "convnext", {"size": EDGE, "crop_pct": 1.0}),
    "convnextv2": (STAGES, "convnext", {"size": EDGE, "crop_pct": 1.0}),
    "siglip": (SIGLIP, "siglip", {"size": SIZE}),
}
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}


def make(folder: Path, family: str, classes: tuple[str, ...] = ()) -> Path:
    """A model's whole folder: a plain backbone, or with a head for those classes."""
    sizes, module, told = FAMILIES[family]
    named = {"id2label": dict(enumerate(classes)), "label2id": {name: at for at, name in enumerate(classes)}}
    config = AutoConfig.for_model(family, **sizes, **(named if classes else {}))
    torch.manual_seed(0)
    model = (AutoModelForImageClassification if classes else AutoModel).from_config(config)
    model.save_pretrained(folder)
    found = vars(import_module(f"transformers.models.{module}.image_processing_pil_{module}"))
    kind = next(value for name, value in found.items() if name.lower() == f"{module}imageprocessorpil")
    kind(**told).save_pretrained(folder)
    return folder


def paint(folder: Path, each: int = 12, parts: tuple[str, ...] = ("train", "valid")) -> Path:
    """Pictures of three colours, a folder for each; no two alike."""
    for offset, part in enumerate(parts):
        for name, colour in COLOURS.items():
            (folder / part / name).mkdir(parents=True)
            for number in range(each):
                shade = tuple(min(255, value + 2 * number + offset) for value in colour)
                Image.new("RGB", (30 + number, 40), shade).save(folder / part / name / f"{number:02}.png")
    return folder

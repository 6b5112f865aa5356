"""Named sets of changes; each may be changed further."""

from __future__ import annotations

from typing import Any

# How large a base the presets by memory carry is what `trainer.memory` predicts; no GPU has measured them.
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "quick": (
        "A quick look: does it learn at all? At most 50 steps.",
        {"training.epochs": 1.0, "training.max_steps": 50, "lora.rank": 8, "lora.alpha": 16},
    ),
    "balanced": (
        "What most rows need: three passes over the data.",
        {"training.epochs": 3.0, "lora.rank": 16, "lora.alpha": 32},
    ),
    "thorough": (
        "More room and more passes at a calmer rate.",
        {
            "training.epochs": 5.0,
            "lora.rank": 64,
            "lora.alpha": 128,
            "lora.dropout": 0.05,
            "optimizer.learning_rate": 1e-4,
        },
    ),
    "8gb": (
        "A device with 8 GB: bases of up to about 4 billion parameters, packed into 4 bits, rows of 512 tokens.",
        {
            "quantise": "4bit",
            "data.max_length": 512,
            "lora.rank": 8,
            "lora.alpha": 16,
            "optimizer.kind": "adamw-8bit",
            "training.gradient_checkpointing": "on",
        },
    ),
    "16gb": (
        "A device with 16 GB: bases of up to about 8 billion parameters, packed into 4 bits, rows of 2,048 tokens.",
        {
            "quantise": "4bit",
            "data.max_length": 2048,
            "lora.rank": 16,
            "lora.alpha": 32,
            "optimizer.kind": "adamw-8bit",
            "training.gradient_checkpointing": "on",
        },
    ),
    "24gb": (
        "A device with 24 GB: bases of up to about 14 billion parameters, packed into 4 bits, rows of 2,048 tokens.",
        {
            "quantise": "4bit",
            "data.max_length": 2048,
            "lora.rank": 32,
            "lora.alpha": 64,
            "training.gradient_checkpointing": "on",
        },
    ),
}

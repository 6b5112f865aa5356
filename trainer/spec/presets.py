"""Named sets of changes; each may be changed further."""

from __future__ import annotations

from typing import Any

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
}

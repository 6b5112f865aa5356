"""The adapter."""

from __future__ import annotations

from trainer.spec.setting import Section, setting


class Lora(Section):
    """The adapter's shape."""

    rank: int = setting(
        16, "Rank", "Higher: can learn more, uses more memory, overfits sooner.", level="basic", ge=1, le=1024
    )
    alpha: int = setting(32, "Alpha", "The update is scaled by alpha / rank.", ge=1, le=4096)
    dropout: float = setting(
        0.0, "Dropout", "Above zero: less overfitting on few rows, slower learning.", ge=0.0, lt=1.0
    )
    target_modules: str = setting(
        "all-linear", "Adapted layers", "`all-linear`, or a regular expression over module names."
    )

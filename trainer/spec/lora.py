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
        "all-linear",
        "Adapted layers",
        "`all-linear`, `attention`, `mlp`, of a model that sees also `projector` and `vision`, and names of layers, with "
        "commas between them; or an expression over names.",
    )
    rslora: bool = setting(
        False, "Rank-stabilised", "Scales by alpha / √rank instead: high ranks learn as fast as low ones."
    )
    dora: bool = setting(
        False, "DoRA", "Learns the size of each weight's column apart: often better at low ranks, slower, more memory."
    )
    modules_to_save: str = setting(
        "",
        "Trained whole",
        "Modules that are trained without an adapter, as in `lm_head, embed_tokens`: much more memory and disk.",
    )
    start_from: str = setting(
        "", "Start from", "The folder of an adapter to train on. Its rank, layers and scaling are taken from it."
    )

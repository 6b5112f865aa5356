"""Whether rows fit a model: known from its configuration and the headers of its weights. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trainer.errors import TrainError
from trainer.models.folder import read_config
from trainer.models.weights import Weights, read_weights

POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")


def check_config(folder: Path, config: dict[str, Any], weights: Weights) -> None:
    """Raise `TrainError` where the configuration speaks of another model than the weights are."""
    text = text_part(config)
    told = {"vocab_size": weights.embedding_rows(), "num_hidden_layers": weights.layers()}
    extra = int(text.get("num_nextn_predict_layers") or 0)  # layers that guess ahead and are not loaded
    for name, found in told.items():
        asked = text.get(name)
        if isinstance(asked, int) and found and not asked <= found <= asked + extra:
            raise TrainError(
                "model-mismatch",
                f"config.json in {folder.name} says `{name}` {asked}, and the weights have {found}.",
                "Fetch the model again: its configuration and its weights are of different models.",
            )


def check_rows(folder: Path, rows: Iterable[Sequence[int]], pad: int) -> None:
    """Raise `TrainError` for rows of token ids that this model could not read, before its weights are loaded."""
    highest, longest = pad, 0
    for ids in rows:
        highest, longest = max(highest, *ids), max(longest, len(ids))
    known = read_weights(folder).embedding_rows()
    if known and highest >= known:
        raise TrainError(
            "vocabulary-mismatch",
            f"The rows hold token {highest:,}, and the model knows {known:,}: its tokenizer is of another model.",
            "Put the model's own tokenizer into its folder.",
        )
    text = text_part(read_config(folder))
    positions = next((text[name] for name in POSITIONS if isinstance(text.get(name), int)), None)
    if positions and longest > positions:
        raise TrainError(
            "length-beyond-model",
            f"The longest row has {longest:,} tokens, and the model reads at most {positions:,}.",
            f"Set `data.max_length` to {positions} or less.",
        )


def text_part(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the text model, which those with a vision tower keep apart."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config

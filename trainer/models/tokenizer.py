"""Load a tokenizer, and know which tokens end an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from trainer.errors import TrainError
from trainer.models.folder import read_config
from trainer.vision import classifies


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer, with a pad token (its end token, when it has none of its own)."""
    if (folder / "config.json").is_file() and classifies(read_config(folder)):
        raise TrainError(
            "task-mismatch",
            f"{folder.name} tells classes of pictures apart: it knows no tokens, and has nothing to say.",
            "Judge such a run with `fettle runs evaluate`; its card shows how the adapter is used.",
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise TrainError(
            "model-invalid",
            f"The tokenizer in {folder} cannot be loaded: {reason}",
            "Check that the folder is complete, or fetch it again.",
        ) from error
    if tokenizer.pad_token_id is None:
        # Any token will do: padding is never attended to and never scored.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def stop_tokens(tokenizer: Any) -> set[int]:
    """The tokens at which the model stops by itself: its tokenizer's end token and those of its configuration."""
    ends = {tokenizer.eos_token_id}
    for name in ("generation_config.json", "config.json"):
        try:
            content = json.loads((Path(tokenizer.name_or_path) / name).read_text(encoding="utf-8"))
            told = content.get("eos_token_id")
        except (OSError, ValueError, AttributeError):
            continue  # the tokenizer's own end token is enough
        ends |= set(told) if isinstance(told, list) else {told}
    return {each for each in ends if isinstance(each, int)}

"""Everything a run is: one model for the form, the file, the command line, the API and the record.

Imports pydantic only; the app uses it without torch.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Level = Literal["basic", "advanced"]


def _setting(
    default: Any, title: str, consequence: str, *, level: Level = "advanced", unit: str = "", **limits: Any
) -> Any:
    """A field with what a person needs to choose its value."""
    return Field(
        default, title=title, description=consequence, json_schema_extra={"level": level, "unit": unit}, **limits
    )


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Section):
    """What is learned, and what is kept aside to judge it."""

    train: str = _setting(
        "", "Training file", "JSONL or JSON rows with `messages`, or `prompt` and `completion`.", level="basic"
    )
    held_out: str | None = _setting(
        None, "Held-out file", "Rows that are never trained on; base and tuned are judged by them.", level="basic"
    )
    max_length: int = _setting(
        512, "Longest row", "Longer rows are cut at the end. Longer: more memory.", unit="tokens", ge=16, le=131072
    )


class Lora(_Section):
    """The adapter's shape."""

    rank: int = _setting(
        16, "Rank", "Higher: can learn more, uses more memory, overfits sooner.", level="basic", ge=1, le=1024
    )
    alpha: int = _setting(32, "Alpha", "The update is scaled by alpha / rank.", ge=1, le=4096)
    dropout: float = _setting(
        0.0, "Dropout", "Above zero: less overfitting on few rows, slower learning.", ge=0.0, lt=1.0
    )
    target_modules: str = _setting(
        "all-linear", "Adapted layers", "`all-linear`, or a regular expression over module names."
    )


class Optimizer(_Section):
    """How the adapter's weights are moved."""

    learning_rate: float = _setting(
        2e-4, "Learning rate", "Higher: learns faster, may diverge.", level="basic", gt=0.0, le=1.0
    )
    weight_decay: float = _setting(0.0, "Weight decay", "Higher: pulls the adapter towards zero.", ge=0.0, le=1.0)
    warmup: float = _setting(
        0.03, "Warm-up", "Part of the steps in which the rate rises from zero.", unit="of all steps", ge=0.0, le=1.0
    )
    schedule: Literal["cosine", "linear", "constant"] = _setting(
        "cosine", "Schedule", "How the rate falls after the warm-up."
    )
    max_grad_norm: float = _setting(1.0, "Gradient clipping", "Lower: calmer steps. Zero: no clipping.", ge=0.0)


class Training(_Section):
    """How long and in what portions."""

    epochs: float = _setting(
        3.0, "Epochs", "Passes over the data. More: learns more, then memorises.", level="basic", gt=0.0, le=10000
    )
    max_steps: int | None = _setting(None, "Most steps", "Ends the run earlier than its epochs would.", ge=1)
    batch_size: int = _setting(
        8, "Batch size", "Rows in one step. Higher: calmer, more memory.", level="basic", unit="rows", ge=1, le=4096
    )
    gradient_accumulation: int = _setting(1, "Accumulation", "Batches added up before one step.", ge=1, le=4096)
    seed: int = _setting(0, "Seed", "Decides the order of rows and the adapter's first weights.", ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = _setting("auto", "Device", "Where the run computes.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = _setting(
        "auto", "Precision", "bf16 halves memory where the device has it."
    )
    threads: int | None = _setting(None, "Threads", "CPU threads; empty: chosen by the model's size.", ge=1, le=1024)


class Evaluation(_Section):
    """How base and tuned are compared on the held-out rows."""

    generate: bool = _setting(
        True, "Exact match", "Also answers each held-out row and counts answers that are exactly right."
    )
    max_new_tokens: int = _setting(
        128, "Longest answer", "Longer answers count as wrong.", unit="tokens", ge=1, le=8192
    )
    rows: int = _setting(200, "Most rows", "Held-out rows beyond this are not used.", unit="rows", ge=1)


class RunSpec(_Section):
    """A run: the same wherever it was started."""

    model: str = _setting(
        "", "Model", "A folder with `config.json`, safetensors weights and a tokenizer.", level="basic"
    )
    data: Data = Data()
    lora: Lora = Lora()
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    name: str = _setting("", "Name", "Shown in the list of runs.", level="basic", max_length=200)

    def with_changes(self, changes: dict[str, Any]) -> RunSpec:
        """A copy with dotted keys replaced, as in `{"lora.rank": 8}`; raises `ValueError` for an unknown key."""
        tree = self.model_dump()
        for key, value in changes.items():
            *path, last = key.split(".")
            section = tree
            for part in path:
                if not isinstance(section.get(part), dict):
                    raise ValueError(f"There is no setting '{key}'.")
                section = section[part]
            if last not in section or isinstance(section[last], dict):
                raise ValueError(f"There is no setting '{key}'.")
            section[last] = value
        return RunSpec.model_validate(tree)

    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the spec."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

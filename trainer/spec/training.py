"""How long, in what portions, on what."""

from __future__ import annotations

from typing import Literal

from trainer.spec.setting import Section, setting


class Training(Section):
    """How long and in what portions."""

    epochs: float = setting(
        3.0, "Epochs", "Passes over the data. More: learns more, then memorises.", level="basic", gt=0.0, le=10000
    )
    max_steps: int | None = setting(None, "Most steps", "Ends the run earlier than its epochs would.", ge=1)
    batch_size: int = setting(
        8, "Batch size", "Rows in one step. Higher: calmer, more memory.", level="basic", unit="rows", ge=1, le=4096
    )
    gradient_accumulation: int = setting(1, "Accumulation", "Batches added up before one step.", ge=1, le=4096)
    seed: int = setting(0, "Seed", "Decides the order of rows and the adapter's first weights.", ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "Device", "Where the run computes.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "auto", "Precision", "bf16 halves memory where the device has it."
    )
    threads: int | None = setting(None, "Threads", "CPU threads; empty: chosen by the model's size.", ge=1, le=1024)
    checkpoint_every: int | None = setting(
        None, "Checkpoint every", "Steps after which a run that was killed can go on. Empty: every five minutes.", ge=1
    )
    checkpoints_kept: int = setting(
        2, "Checkpoints kept", "Older ones are deleted. More: more disk; one: nothing to fall back on.", ge=1, le=1000
    )

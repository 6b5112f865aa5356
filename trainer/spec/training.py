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
    max_hours: float | None = setting(
        None, "Most hours", "Ends the run, and saves its adapter, after so much training.", unit="hours", gt=0.0
    )
    micro_batch_size: int | None = setting(
        None,
        "Rows at once",
        "Lower: less memory, slower, the same step. Empty: as many as fit, halved when memory runs out.",
        unit="rows",
        ge=1,
    )
    gradient_accumulation: int = setting(1, "Accumulation", "Batches added up before one step.", ge=1, le=4096)
    end_to_end: Literal["off", "auto"] = setting(
        "auto",
        "Rows end to end",
        "Auto: no padding is computed and adapted layers take fewer passes, where a trial shows the same logits; faster, "
        "above all where rows differ in length.",
        level="expert",
    )
    seed: int = setting(0, "Seed", "Decides the order of rows and the adapter's first weights.", ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "Device", "Where the run computes.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "auto",
        "Precision",
        "bf16 halves memory. Auto: bf16 on GPUs that compute in it, and on such processors for models stored in it.",
    )
    threads: int | None = setting(None, "Threads", "CPU threads; empty: chosen by the model's size.", ge=1, le=1024)
    checkpoint_every: int | None = setting(
        None, "Checkpoint every", "Steps after which a run that was killed can go on. Empty: every five minutes.", ge=1
    )
    checkpoints_kept: int = setting(
        2, "Checkpoints kept", "Older ones are deleted. More: more disk; one: nothing to fall back on.", ge=1, le=1000
    )
    evaluate_every: int | None = setting(
        None,
        "Evaluate every",
        "Steps after which the held-out loss is taken; the adapter with the lowest is kept. Empty: never.",
        unit="steps",
        ge=1,
    )
    early_stopping: int | None = setting(
        None, "Early stopping", "Ends the run after so many evaluations without gain. Needs `evaluate_every`.", ge=1
    )
    sample_every: int | None = setting(
        None, "Samples every", "Steps after which the prompts below are answered. Empty: never.", unit="steps", ge=1
    )
    sample_prompts: str = setting(
        "", "Sample prompts", "One a line. Empty: the questions of the first three held-out rows.", max_length=20000
    )
    profile_steps: int = setting(
        0,
        "Profiled steps",
        "Traces so many steps into `profile/`, with a table of the costliest operations.",
        level="expert",
        ge=0,
        le=100,
    )
    label_smoothing: float = setting(
        0.0, "Label smoothing", "Higher: less sure of each token, less memorising.", level="expert", ge=0.0, lt=1.0
    )
    neftune: float = setting(
        0.0,
        "NEFTune noise",
        "Noise on the embeddings, often 5: answers get longer and less copied.",
        level="expert",
        ge=0.0,
        le=100.0,
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = setting(
        "auto",
        "Gradient checkpointing",
        "On: much less memory, about a third slower. Auto: where one row does not fit without.",
    )
    compile: bool = setting(
        False,
        "Compile",
        "Compiles the layers: minutes at the start, faster steps.",
        level="expert",
        acts_on=("cpu", "cuda"),
    )
    deterministic: bool = setting(
        False, "Deterministic", "The same digits each time, slower on a GPU.", level="expert", acts_on=("cpu", "cuda")
    )
    cudnn_benchmark: bool = setting(
        False,
        "cuDNN benchmark",
        "Tries kernels first; for models with convolutions.",
        level="expert",
        acts_on=("cuda",),
    )
    memory_limit: float | None = setting(
        None,
        "Memory limit",
        "The run takes no more of the GPU's memory.",
        unit="GB",
        level="expert",
        acts_on=("cuda",),
        gt=0.0,
    )
    gpu: int | None = setting(
        None, "Which GPU", "Counted from 0; empty: the first.", level="expert", acts_on=("cuda",), ge=0, le=63
    )

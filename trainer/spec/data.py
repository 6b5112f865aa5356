"""What is learned from."""

from __future__ import annotations

from trainer.spec.setting import Section, setting


class Data(Section):
    """What is learned, and what is kept aside to judge it."""

    train: str = setting(
        "", "Training file", "JSONL or JSON rows with `messages`, or `prompt` and `completion`.", level="basic"
    )
    held_out: str | None = setting(
        None, "Held-out file", "Rows that are never trained on; base and tuned are judged by them.", level="basic"
    )
    max_length: int = setting(
        512, "Longest row", "Longer rows are cut at the end. Longer: more memory.", unit="tokens", ge=16, le=131072
    )

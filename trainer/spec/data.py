"""What is learned from."""

from __future__ import annotations

from typing import Literal

from trainer.data.formats import FormatName
from trainer.spec.setting import Section, setting


class Data(Section):
    """What is learned, and what is kept aside to judge it."""

    train: str = setting(
        "",
        "Training file",
        "JSONL, JSON, CSV, text or parquet, a folder with `train` and `valid`, or `hub:owner/name`.",
        level="basic",
    )
    held_out: str | None = setting(
        None, "Held-out file", "Rows that are never trained on; base and tuned are judged by them.", level="basic"
    )
    format: FormatName = setting(
        "auto",
        "Format",
        "`auto` goes by the columns; a name here takes every row as that, and refuses what does not fit.",
    )
    columns: str = setting(
        "", "Columns", "Names of your columns, as in `prompt=question, completion=answer`. Empty: the usual names."
    )
    bad_rows: Literal["refuse", "drop"] = setting(
        "refuse",
        "Rows that cannot be learned",
        "`refuse` ends the run before it begins; `drop` counts them and goes on.",
    )
    deduplicate: bool = setting(False, "Drop duplicates", "Each row is learned once, however often the files hold it.")
    held_out_share: float = setting(
        0.0,
        "Share held out",
        "Without a held-out file, this part of the rows is kept aside. Equal rows stay together.",
        unit="of all rows",
        ge=0.0,
        le=0.5,
    )
    split_by: str = setting(
        "", "Split by column", "Rows with the same value here stay on the same side. Empty: only equal rows do."
    )
    split_seed: int = setting(0, "Split seed", "Another number holds out other rows.", ge=0, le=2**63)
    mix: str = setting(
        "",
        "Mixed in",
        "More data sets with weights, as in `other.jsonl = 0.5; third.csv = 2`: how often their rows come in one pass.",
    )
    chunk_characters: int = setting(
        2000,
        "Piece of plain text",
        "Text files are cut at paragraphs into pieces of about this length.",
        unit="characters",
        ge=100,
        le=1_000_000,
    )
    max_length: int = setting(
        512, "Longest row", "Longer rows are cut or left out. Longer: more memory.", unit="tokens", ge=16, le=131072
    )
    truncation: Literal["end", "start", "drop"] = setting(
        "end", "Rows that are too long", "Lose their end, lose their start, or are left out whole (`drop`)."
    )
    train_on: Literal["assistant", "last", "completion", "everything"] = setting(
        "assistant",
        "Learn from",
        "Every answer, the last answer, all answers after the last question, or every token of the row.",
    )
    template: Literal["auto", "model", "chatml", "plain", "raw"] = setting(
        "auto",
        "Chat template",
        "`auto` takes the model's own, or one for a model without; `raw` joins prompt and answer as they are.",
    )

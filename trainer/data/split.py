"""Part rows into training and held-out so that equal rows, or rows of one group, are never on both sides."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.data.samples import Sample
from trainer.errors import TrainError


def content_key(sample: Sample) -> bytes:
    """A digest of what the sample teaches, the same for equal rows wherever they were read."""
    content: list[Any] = [sample.kind, sample.messages, sample.tools, sample.prompt, sample.completion, sample.text]
    content += [sample.label] if sample.label else []
    content += [[each.path, hashlib.blake2b(each.content).hexdigest()] for each in sample.pictures]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def without_duplicates(samples: Sequence[Sample]) -> list[Sample]:
    """The first of each set of equal rows, in their order."""
    seen: set[bytes] = set()
    kept = []
    for sample in samples:
        key = content_key(sample)
        if key not in seen:
            seen.add(key)
            kept.append(sample)
    return kept


def part(keys: Sequence[bytes], share: float, seed: int) -> list[bool]:
    """Which rows are held out: whole groups of equal keys in a seeded order, until the share of rows is reached.

    The same keys and seed give the same answer in any order of the rows. Raises `TrainError` when a side would be empty.
    """
    sizes = Counter(keys)
    wanted = max(1, round(share * len(keys)))
    order = sorted(sizes, key=lambda key: hashlib.blake2b(key, key=seed.to_bytes(8, "little")).digest())
    held: set[bytes] = set()
    count = 0
    for key in order:
        if count >= wanted:
            break
        if count + sizes[key] < len(keys):  # a group as large as the rest stays in training
            held.add(key)
            count += sizes[key]
    if not held:
        raise TrainError(
            "data-split",
            f"{len(keys)} rows in {len(sizes)} groups cannot be parted into two sides.",
            "Add rows, group by another column, or name a held-out file.",
        )
    return [key in held for key in keys]


def write_sides(rows: Sequence[tuple[Any, bytes]], share: float, seed: int, folder: Path) -> tuple[int, int]:
    """Write `train.jsonl` and `valid.jsonl` into a new folder; returns their numbers of rows."""
    held = part([key for _, key in rows], share, seed)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TrainError("data-output", f"{folder} holds something already.", "Name a new or empty folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, side in (("valid.jsonl", True), ("train.jsonl", False)):
            partial = folder / f"{name}.part"
            lines = (
                json.dumps(row, ensure_ascii=False) for (row, _), mark in zip(rows, held, strict=True) if mark is side
            )
            with partial.open("w", encoding="utf-8", newline="\n") as stream:
                stream.writelines(f"{line}\n" for line in lines)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, folder / name)
    except OSError as error:
        raise TrainError(
            "data-output", f"{folder} cannot be written: {error.strerror}.", "Name a folder that you can write to."
        ) from error
    return held.count(False), held.count(True)

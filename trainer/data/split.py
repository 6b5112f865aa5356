"""Part rows into training and held-out so that equal rows, or rows of one group, are never on both sides."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence

from trainer.data.samples import Sample
from trainer.errors import TrainError


def content_key(sample: Sample) -> bytes:
    """A digest of what the sample teaches, the same for equal rows wherever they were read."""
    content = [sample.kind, sample.messages, sample.tools, sample.prompt, sample.completion, sample.text]
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

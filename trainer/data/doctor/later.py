"""The slower checks, in a process of their own that says what it finds as it goes.

Duplicate keys, personal data, rows that are almost the same, and held-out rows that are also trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer.data.doctor import personal
from trainer.data.doctor.likeness import MOST_ROWS, Likeness, sketch
from trainer.data.doctor.serving import Say, samples_of, serve
from trainer.data.doctor.tally import Tally
from trainer.data.problems import Finding, shorten
from trainer.data.readers.lines import Line, numbered
from trainer.data.readers.opening import Damaged, blocks, look
from trainer.data.samples import Place, Sample

PROGRESS_ROWS = 2000


class Later:
    """One pass over the training rows, after one over the held-out rows where there are any."""

    def __init__(self, task: dict[str, Any], say: Say) -> None:
        self._task, self._say = task, say
        self._tally = Tally()
        self._seen = 0

    def run(self) -> Tally:
        """Look at every row that can be learned; what is found is said at once."""
        if self._task["path"] and not Path(self._task["path"]).is_dir():
            self._duplicate_keys()
        likeness = Likeness()
        trained: set[int] = set()
        asked: set[int] = set()
        for sample in self._samples(self._task):
            text = _text(sample)
            key = _key(text)
            self._personal(sample, text)
            if sample.pictures:  # one text may fit many of them; whether they are alike is looked at by itself
                continue
            if not likeness.full:
                self._alike(sample, text, likeness, again=key in trained)
            trained.add(key)
            question = _question(sample) if self._task.get("held_out") else ""
            if question:
                asked.add(_key(question))
        if self._task.get("held_out"):
            for sample in self._samples(self._task["held_out"]):
                if not sample.pictures:
                    self._leaked(sample, likeness, trained, asked)
        return self._tally

    def _samples(self, task: dict[str, Any]) -> Iterator[Sample]:
        # What is alike or leaked is looked for in texts; pictures are compared apart.
        return (sample for sample in samples_of(task, self._row_read) if not sample.label)

    def _row_read(self) -> None:
        self._seen += 1
        if self._seen % PROGRESS_ROWS == 0:
            self._say({"rows": self._seen}, b"")

    def _find(self, finding: Finding) -> None:
        if self._tally.find(finding):
            self._say({"rows": self._seen, "finding": asdict(finding)}, b"")

    def _duplicate_keys(self) -> None:
        opened = look(Path(self._task["path"]))
        if opened.shape != "jsonl":
            return
        twice: list[str] = []

        def pairs(items: list[tuple[str, Any]]) -> None:
            if len({name for name, _ in items}) < len(items):
                names = [name for name, _ in items]
                twice.append(next(name for name in names if names.count(name) > 1))

        decoder = json.JSONDecoder(object_pairs_hook=pairs)
        for number, line in _until_damage(numbered(blocks(opened))):
            if not isinstance(line, bytes):
                continue
            try:
                decoder.decode(line.decode("utf-8"))
            except (ValueError, RecursionError):
                twice.clear()
                continue
            if twice:
                detail = f"the column `{shorten(twice[0])}` is there twice; only the last counts."
                self._find(Finding("duplicate-key", Place(opened.path.name, number, number), detail, twice[0][:80]))
                twice.clear()

    def _personal(self, sample: Sample, text: str) -> None:
        address = personal.email(text)
        if address:
            self._find(Finding("personal-email", sample.place, "there is an e-mail address.", found=shorten(address)))
        key = personal.secret(text)
        if key:
            self._find(Finding("key-secret", sample.place, f"there is {key[0]}.", found=key[1]))

    def _alike(self, sample: Sample, text: str, likeness: Likeness, *, again: bool) -> None:
        of = sketch(text)
        if not of or again:  # equal rows are told by the structural pass
            return
        other = likeness.find(of)
        if other is not None:
            self._find(Finding("near-duplicate", sample.place, f"almost the same as row {other}.", found=shorten(text)))
        likeness.remember(of, sample.place.row)

    def _leaked(self, sample: Sample, likeness: Likeness, trained: set[int], asked: set[int]) -> None:
        text, question = _text(sample), _question(sample)
        if _key(text) in trained:
            detail = "this held-out row is also a training row."
            self._find(Finding("leakage", sample.place, detail, found=shorten(text)))
            return
        other = likeness.find(sketch(text))
        if other is not None:
            detail = f"this held-out row is almost the same as training row {other}."
            self._find(Finding("leakage", sample.place, detail, found=shorten(text)))
        elif question and _key(question) in asked:
            detail = "the question of this held-out row is asked in the training rows too."
            self._find(Finding("leakage-prompt", sample.place, detail, found=shorten(question)))


def _until_damage(lines: Iterable[tuple[int, Line]]) -> Iterator[tuple[int, Line]]:
    """The lines before the place where compressed bytes break, which the structural pass has told."""
    with suppress(Damaged):
        yield from lines


def _text(sample: Sample) -> str:
    """All that the row says, without how often it was spaced."""
    said = [sample.text, *(turn["content"] for turn in sample.messages)]
    return " ".join(" ".join(said).split())


def _question(sample: Sample) -> str:
    """What is asked before the last answer."""
    return " ".join(" ".join(turn["content"] for turn in sample.messages[:-1] if turn["role"] != "system").split())


def _key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.lower().encode("utf-8", "replace"), digest_size=7).digest(), "big")


def main() -> None:
    """Serve the slower checks."""

    def answer(task: dict[str, Any], say: Say) -> tuple[dict[str, Any], bytes]:
        tally = Later(task, say).run()
        return {"tally": tally.to_json(), "near_rows": MOST_ROWS}, b""

    serve(answer)

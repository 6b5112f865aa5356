"""Read a run's data files into samples, or say exactly where one is wrong. Torch-free."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.data.samples import ROLES, Message, Place, Sample
from trainer.errors import TrainError
from trainer.spec import Data

FORMATS = "`messages`, `prompt` and `completion`, or `instruction` and `output`"


@dataclass(frozen=True)
class Samples:
    """The rows of a run; `dropped` counts the rows left out by their reason, `first_dropped` has one place of each."""

    train: list[Sample]
    held_out: list[Sample]
    dropped: Counter[str] = field(default_factory=Counter)
    first_dropped: dict[str, Place] = field(default_factory=dict)


def read_samples(data: Data) -> Samples:
    """All rows that the settings name; raises `TrainError` with file and line for the first that cannot be learned."""
    return Samples(read_file(Path(data.train)), read_file(Path(data.held_out)) if data.held_out else [])


def read_file(path: Path) -> list[Sample]:
    """All rows of a JSONL file, or of a JSON file that holds one array."""
    rows = [_sample(Place(path.name, number, line), row) for number, line, row in _rows(path)]
    if not rows:
        raise TrainError(
            "data-empty", f"{path.name} holds no rows.", f"Add rows with {FORMATS}, one JSON object a line."
        )
    return rows


def fingerprint(path: Path) -> str:
    """SHA-256 of the file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _bad_row(place: Place, what: str, remedy: str) -> TrainError:
    return TrainError("data-row-invalid", f"{place}: {what}", remedy)


def _text(path: Path) -> str:
    if not path.exists():
        raise TrainError("data-missing", f"There is no data file at {path}.", "Check the path, or choose another file.")
    if path.is_dir():
        raise TrainError("data-missing", f"{path} is a folder, not a data file.", "Choose the JSONL file inside it.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        place = Place(path.name, line, line)
        raise _bad_row(place, "these bytes are not UTF-8 text.", "Save the file as UTF-8.") from error
    except OSError as error:
        raise TrainError(
            "data-unreadable", f"{path} cannot be read: {error.strerror}.", "Check the file's permissions."
        ) from error


def _rows(path: Path) -> Iterator[tuple[int, int | None, Any]]:
    """(row number, line number, parsed row) of each row; blank lines are passed over."""
    text = _text(path)
    if text.lstrip().startswith("["):
        try:
            for number, row in enumerate(json.loads(text), start=1):
                yield number, None, row
        except ValueError as error:
            line = getattr(error, "lineno", 1)
            raise _bad_row(
                Place(path.name, line, line),
                "the JSON array is broken here.",
                "Mend the JSON, or save one object a line.",
            ) from error
        return
    number = 0
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        number += 1
        try:
            row = json.loads(content)
        except ValueError as error:
            start = content.strip()[:60]
            place = Place(path.name, number, line)
            raise _bad_row(place, f"not valid JSON: {start!r}.", "Mend or remove the line.") from error
        yield number, line, row


def _sample(place: Place, row: Any) -> Sample:
    """One row in any accepted form; a conversation must hold an answer to learn."""
    if not isinstance(row, dict):
        raise _bad_row(place, "the row is not an object.", f"Use rows with {FORMATS}.")
    if "messages" in row:
        return Sample("conversation", place, _turns(place, row["messages"]))
    if "prompt" in row and "completion" in row:
        prompt, completion = row["prompt"], row["completion"]
        if isinstance(prompt, list) and isinstance(completion, list):
            return Sample("conversation", place, _turns(place, prompt + completion))
        messages = _turns(place, _two_sides(prompt, completion))
        return Sample("completion", place, messages, prompt=prompt, completion=completion)
    if "instruction" in row and "output" in row:
        asked = "\n\n".join(str(part) for part in (row["instruction"], row.get("input")) if part)
        return Sample("conversation", place, _turns(place, _two_sides(asked, row["output"])))
    names = ", ".join(sorted(map(str, row))) or "none"
    raise _bad_row(place, f"no known columns (found: {names}).", f"Use rows with {FORMATS}.")


def _two_sides(asked: Any, answer: Any) -> Any:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def _turns(place: Place, messages: Any) -> tuple[Message, ...]:
    problem = _problem(messages)
    if problem:
        raise _bad_row(place, problem, "Mend or remove the row.")
    return tuple({"role": m["role"], "content": m["content"]} for m in messages)


def _problem(messages: Any) -> str | None:
    """What keeps these messages from being a conversation, or None."""
    if not isinstance(messages, list) or not messages:
        return "`messages` is not a list of turns."
    for turn in messages:
        if not isinstance(turn, dict) or turn.get("role") not in ROLES:
            return f"a turn has no role out of {', '.join(ROLES)}."
        if not isinstance(turn.get("content"), str):
            return "a turn's content is not text."
    if not any(turn["role"] == "assistant" and turn["content"].strip() for turn in messages):
        return "no answer of the assistant to learn from."
    return None

"""Read a data file into conversations, or say exactly where it is wrong. Torch-free."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

from trainer.errors import TrainError

ROLES = ("system", "user", "assistant", "tool")
FORMATS = "`messages`, `prompt` and `completion`, or `instruction` and `output`"


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


Conversation = list[Message]


def _bad_row(path: Path, line: int, what: str, remedy: str) -> TrainError:
    return TrainError("data-row-invalid", f"{path.name}, line {line}: {what}", remedy)


def read_conversations(path: Path) -> list[Conversation]:
    """All rows of a JSONL file, or of a JSON file that holds one array, as conversations.

    Raises `TrainError` with file and line for the first row that cannot be learned from.
    """
    rows = [_conversation(path, line, row) for line, row in _rows(path)]
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


def _text(path: Path) -> str:
    if not path.exists():
        raise TrainError("data-missing", f"There is no data file at {path}.", "Check the path, or choose another file.")
    if path.is_dir():
        raise TrainError("data-missing", f"{path} is a folder, not a data file.", "Choose the JSONL file inside it.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise _bad_row(path, line, "these bytes are not UTF-8 text.", "Save the file as UTF-8.") from error
    except OSError as error:
        raise TrainError(
            "data-unreadable", f"{path} cannot be read: {error.strerror}.", "Check the file's permissions."
        ) from error


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, parsed row) of each row; blank lines are passed over."""
    text = _text(path)
    if text.lstrip().startswith("["):
        try:
            yield from enumerate(json.loads(text), start=1)
        except ValueError as error:
            line = getattr(error, "lineno", 1)
            raise _bad_row(
                path, line, "the JSON array is broken here.", "Mend the JSON, or save one object a line."
            ) from error
        return
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except ValueError as error:
            start = content.strip()[:60]
            raise _bad_row(path, line, f"not valid JSON: {start!r}.", "Mend or remove the line.") from error
        yield line, row


def _conversation(path: Path, line: int, row: Any) -> Conversation:
    """One row in any accepted form as messages; a conversation must hold an answer to learn."""
    if not isinstance(row, dict):
        raise _bad_row(path, line, "the row is not an object.", f"Use rows with {FORMATS}.")
    if "messages" in row:
        messages = row["messages"]
    elif "prompt" in row and "completion" in row:
        messages = _two_sides(row["prompt"], row["completion"])
    elif "instruction" in row and "output" in row:
        asked = "\n\n".join(part for part in (row["instruction"], row.get("input")) if part)
        messages = _two_sides(asked, row["output"])
    else:
        names = ", ".join(sorted(map(str, row))) or "none"
        raise _bad_row(path, line, f"no known columns (found: {names}).", f"Use rows with {FORMATS}.")
    problem = _problem(messages)
    if problem:
        raise _bad_row(path, line, problem, "Mend or remove the row.")
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def _two_sides(asked: Any, answer: Any) -> Any:
    if isinstance(asked, list) and isinstance(answer, list):
        return asked + answer
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


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

"""What a row of any data file becomes before a tokenizer sees it. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

ROLES = ("system", "user", "assistant", "tool")
PICTURE = "\ufffc"  # stands in a turn's text for a picture: Unicode's replacement for an object
Kind = Literal["conversation", "completion", "text", "class"]


class _Turn(TypedDict):
    role: str
    content: str


class Message(_Turn, total=False):
    """One turn of a conversation; an assistant's turn may call tools, a tool's turn answers one call."""

    tool_calls: list[dict[str, Any]]
    name: str
    tool_call_id: str


@dataclass(frozen=True)
class Place:
    """Where a sample was read: the row counts from 1 (0 is the file itself), and so does the line where there are lines."""

    file: str
    row: int
    line: int | None = None

    def __str__(self) -> str:
        if self.line:
            return f"{self.file}, line {self.line}"
        return f"{self.file}, row {self.row}" if self.row else self.file


@dataclass(frozen=True)
class Picture:
    """One picture: a file, or its bytes where they lie in the row."""

    path: str = ""
    content: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Sample:
    """One row to learn from.

    A conversation has `messages` (and `tools`, where its rows describe them). A completion has `prompt` and
    `completion` as plain text, and the same two as `messages`, for models that have a chat template. A text has `text`.
    A class has one picture and its `label`.
    """

    kind: Kind
    place: Place
    messages: tuple[Message, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    prompt: str = ""
    completion: str = ""
    text: str = ""
    pictures: tuple[Picture, ...] = ()  # in the order of their signs in the turns
    label: str = ""

    @property
    def answer(self) -> str:
        """The last turn's text where it is the assistant's: what a model can be asked to give. Else empty."""
        last = self.messages[-1] if self.messages else None
        return last["content"] if last and last["role"] == "assistant" else ""

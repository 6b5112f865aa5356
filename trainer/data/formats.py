"""Which columns make which kind of row, and how such a row becomes a sample."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal, get_args

from trainer.data.pictures import Pictures
from trainer.data.problems import RowError, shorten
from trainer.data.samples import Message, Place, Sample
from trainer.data.turns import from_sharegpt, read_tools, read_turns
from trainer.errors import TrainError

FormatName = Literal[
    "auto",
    "messages",
    "sharegpt",
    "prompt-completion",
    "question-answer",
    "alpaca",
    "text",
    "image-class",
    "preference",
    "kto",
]
FORMAT_NAMES: tuple[str, ...] = get_args(FormatName)
Row = dict[str, Any]
ACCEPTED = "`messages`; `prompt` and `completion`; `instruction` and `output`; `question` and `answer`; `text`; or `image` and `label`"
MOST_LAYOUTS = 1000  # sets of columns remembered; a file that has more of them is garbage
# Two columns whose names say that one answers the other.
PAIRS = (
    *(("question", "answer"), ("question", "response"), ("query", "response"), ("query", "answer")),
    *(("prompt", "response"), ("prompt", "answer"), ("instruction", "response"), ("input", "output")),
    *(("user", "assistant"), ("human", "assistant"), ("source", "target"), ("problem", "solution"), ("q", "a")),
)
PICTURE_COLUMNS = ("image", "images", "img", "picture", "file_name")  # that a class's picture may stand in


@dataclass(frozen=True)
class Format:
    """A format by name, and which of the file's columns plays which part in it."""

    name: str
    parts: Mapping[str, str]
    needed: Collection[str] = field(default=())

    @property
    def later(self) -> bool:
        """Recognised, but of a training method that is not there yet."""
        return self.name in ("preference", "kto")

    def missing(self, row: Row) -> list[str]:
        """The columns without which this row says nothing."""
        return [column for part, column in self.parts.items() if part in self.needed and column not in row]

    def unused(self, columns: Collection[str]) -> list[str]:
        """Columns that training ignores."""
        return [column for column in columns if column not in self.parts.values()]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(f'`{column}`' for column in self.parts.values())})"


# The parts of each format: those that it needs, and those that may be there.
_FORMATS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "preference": (("chosen", "rejected"), ("prompt", "system", "tools")),
    "kto": (("prompt", "completion", "label"), ("system",)),
    "messages": (("messages",), ("system", "tools", "images")),
    "sharegpt": (("conversations",), ("system", "tools", "images")),
    "prompt-completion": (("prompt", "completion"), ("system", "tools", "images")),
    "alpaca": (("instruction", "output"), ("input", "system", "history", "images")),
    "question-answer": (("question", "answer"), ("system", "images")),
    "text": (("text",), ("images",)),
    "image-class": (("image", "label"), ()),
}


def detect(columns: Collection[str], asked: str = "auto", mapping: Mapping[str, str] | None = None) -> Format | None:
    """The format that these columns make, the asked one when there is one; None when they make none."""
    named = dict(mapping or {})
    if "kto_tag" in columns and "label" not in named:
        named["label"] = "kto_tag"
    for name, (needed, may) in _FORMATS.items():
        if asked not in ("auto", name) or (asked == "auto" and not _named_fit(mapping, (*needed, *may))):
            continue
        column = _column_of_each(name, (*needed, *may), named, columns)
        if all(column[part] in columns for part in needed) or asked == name:
            there = {part: place for part, place in column.items() if part in needed or place in columns}
            return Format(name, there, needed)
    if asked in ("auto", "question-answer") and set(named) <= {"images"}:
        shown = next((each for each in (named.get("images", "images"), "image") if each in columns), None)
        for asks, answers in PAIRS:
            if asks in columns and answers in columns:
                parts = {"question": asks, "answer": answers, **({"images": shown} if shown else {})}
                return Format("question-answer", parts, ("question", "answer"))
    return None


def _column_of_each(
    name: str, parts: Collection[str], named: Mapping[str, str], columns: Collection[str]
) -> dict[str, str]:
    """In which column each part of a format stands: as named, by its own name, or by another that is usual for it."""
    column = {part: named.get(part, part) for part in parts}
    if "images" in column and "image" in columns and column["images"] not in columns:
        column["images"] = "image"
    if name == "text" and "caption" in columns and "text" not in columns and column.get("images") in columns:
        column["text"] = "caption"
    if name == "image-class" and "image" not in named:
        usual = next((each for each in PICTURE_COLUMNS if each in columns), "image")
        column["image"] = named.get("images", usual)
    return column


def _named_fit(mapping: Mapping[str, str] | None, parts: Collection[str]) -> bool:
    return all(part in parts or (part == "images" and "image" in parts) for part in mapping or {})


def read_mapping(text: str) -> dict[str, str]:
    """`data.columns` as part → column; raises `TrainError` for what is not of that form."""
    parts = {part for needed, may in _FORMATS.values() for part in (*needed, *may)}
    found: dict[str, str] = {}
    for item in filter(None, (piece.strip() for piece in text.split(","))):
        part, equals, column = (piece.strip() for piece in item.partition("="))
        if not equals or part not in parts or not column:
            raise TrainError(
                "data-columns",
                f"`data.columns`: '{item}' does not name a part and its column.",
                f"Write it as `prompt=question, completion=answer`; the parts are {', '.join(sorted(parts))}.",
            )
        found[part] = column
    return found


class Forms:
    """The format of each row by its columns, found once for each set of columns."""

    def __init__(self, asked: str, columns: str) -> None:
        self._asked, self._mapping = asked, read_mapping(columns)
        self.seen: dict[tuple[str, ...], Format | None] = {}

    def of(self, row: Any) -> Format:
        """The row's format; raises `RowError` where its columns make none."""
        if not isinstance(row, dict):
            raise RowError("not-object", "the row is not an object with named columns.", found=row)
        columns = tuple(row)
        if columns not in self.seen:
            if len(self.seen) > MOST_LAYOUTS:
                self.seen.clear()
            self.seen[columns] = detect(columns, self._asked, self._mapping)
        form = self.seen[columns]
        if form is None:
            names = ", ".join(f"`{shorten(name)}`" for name in columns[:8]) or "none"
            hint = _hint(columns, self._mapping) or _wrapped(row)
            raise RowError("columns-unknown", f"no known columns (there are: {names}).{hint}")
        return form


def _wrapped(row: Row) -> str:
    """That a column holds the rows themselves, as a sentence; empty where none does."""
    for column, value in row.items():
        if isinstance(value, list) and len(value) > 1 and all(isinstance(each, dict) for each in value):
            return f" The rows seem to lie in `{shorten(column)}`; save that list as a file of its own."
    return ""


def _hint(columns: Collection[str], mapping: Mapping[str, str]) -> str:
    """What was probably meant by these columns, as a sentence; empty where nobody knows."""
    gone = next((column for column in mapping.values() if column not in columns), None)
    if gone is not None:
        return f" `data.columns` names `{shorten(gone)}`, which is not among them."
    known = {part for needed, may in _FORMATS.values() for part in (*needed, *may)}
    for column in columns:
        near = get_close_matches(column.lower(), known, 1, 0.8)
        if near and near[0] != column:
            return f" Is `{shorten(column)}` meant to be `{near[0]}`?"
    for needed, _ in (*_FORMATS.values(), *((pair, ()) for pair in PAIRS)):
        there = [part for part in needed if part in mapping or part in columns]
        lacking = [part for part in needed if part not in there]
        if there and lacking:
            return f" Beside `{there[0]}`, `{lacking[0]}` is needed."
    return ""


def to_sample(form: Format, row: Row, place: Place) -> tuple[Sample, list[tuple[str, str, str]]]:
    """The sample in a row, and what is odd about it as (kind, detail, field); raises `RowError` for a useless row."""
    missing = form.missing(row)
    if missing:
        there = ", ".join(f"`{name}`" for name in list(row)[:8]) or "none"
        raise RowError("columns-missing", f"the column `{missing[0]}` is missing (there are: {there}).", missing[0])
    if form.later:
        raise RowError("preference", f"this is a row of the format {form}, which cannot be trained on yet.")
    pictures = Pictures.of_column(_part(form, row, "images"), form.parts.get("images", ""))
    return _BUILDERS[form.name](form, row, place, pictures)


Built = tuple[Sample, list[tuple[str, str, str]]]


def _messages(form: Format, row: Row, place: Place, pictures: Pictures) -> Built:
    column = form.parts["messages"]
    return _conversation(form, row, place, pictures, read_turns(row[column], column, pictures))


def _sharegpt(form: Format, row: Row, place: Place, pictures: Pictures) -> Built:
    column = form.parts["conversations"]
    turns = read_turns(from_sharegpt(row[column], column), column, pictures)
    return _conversation(form, row, place, pictures, turns)


def _prompt_completion(form: Format, row: Row, place: Place, pictures: Pictures) -> Built:
    asks, answers = form.parts["prompt"], form.parts["completion"]
    prompt, completion = row[asks], row[answers]
    if isinstance(prompt, list) and isinstance(completion, list):
        if all(isinstance(each, str) for each in prompt + completion):
            detail = (
                f"`{asks}` and `{answers}` hold lists of texts, so these are whole columns; write each row by itself."
            )
            raise RowError("content-type", detail, asks, prompt)
        turns = read_turns(prompt + completion, f"{asks}+{answers}", pictures)
        return _conversation(form, row, place, pictures, turns)
    sample, odd = _conversation(form, row, place, pictures, (_pair(prompt, asks, completion, answers), []))
    return replace(sample, kind="completion", prompt=prompt, completion=completion), odd


def _question_answer(form: Format, row: Row, place: Place, pictures: Pictures) -> Built:
    asks, answers = form.parts["question"], form.parts["answer"]
    return _conversation(form, row, place, pictures, (_pair(row[asks], asks, row[answers], answers), []))


def _alpaca(form: Format, row: Row, place: Place, pictures: Pictures) -> Built:
    asks, answers = form.parts["instruction"], form.parts["output"]
    more = _part(form, row, "input")
    asked = _text(row[asks], asks)
    if more not in (None, ""):
        asked = f"{asked}\n\n{_text(more, form.parts['input'])}"
    earlier: list[Message] = []
    for index, turn in enumerate(_part(form, row, "history") or []):
        where = f"{form.parts['history']}[{index}]"
        if not isinstance(turn, list) or len(turn) != 2:
            raise RowError("messages-shape", f"`{where}` is not a pair of question and answer.", where, turn)
        earlier += _pair(turn[0], f"{where}[0]", turn[1], f"{where}[1]")
    return _conversation(form, row, place, pictures, ([*earlier, *_pair(asked, asks, row[answers], answers)], []))


def _plain(form: Format, row: Row, place: Place, pictures: Pictures) -> Built:
    column = form.parts["text"]
    text = _target(row[column], column)
    if pictures.given:  # a caption
        turns: list[Message] = [{"role": "user", "content": ""}, {"role": "assistant", "content": text}]
        return _conversation(form, row, place, pictures, (turns, []))
    return Sample("text", place, text=text), []


def _image_class(form: Format, row: Row, place: Place, _pictures: Pictures) -> Built:
    shown, column = form.parts["image"], form.parts["label"]
    pictures = Pictures.of_column(row[shown], shown).given
    if len(pictures) != 1:
        detail = f"`{shown}` holds {len(pictures)} pictures, and a class is of one."
        raise RowError("picture-unnamed" if not pictures else "pictures-count", detail, shown, row[shown])
    label = row[column]
    named = str(label).strip() if isinstance(label, str | int) and not isinstance(label, bool) else ""
    if not named:
        raise RowError("label-missing", f"`{column}` names no class.", column, label)
    return Sample("class", place, pictures=tuple(pictures), label=named), []


_BUILDERS: dict[str, Callable[[Format, Row, Place, Pictures], Built]] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "prompt-completion": _prompt_completion,
    "question-answer": _question_answer,
    "alpaca": _alpaca,
    "text": _plain,
    "image-class": _image_class,
}


def _conversation(
    form: Format,
    row: Row,
    place: Place,
    pictures: Pictures,
    read: tuple[list[Message], list[tuple[str, str, str]]],
) -> Built:
    turns, odd = read
    turns, shown = pictures.settle(turns)
    system = _part(form, row, "system")
    if system not in (None, "") and not (turns and turns[0]["role"] == "system"):
        turns = [{"role": "system", "content": _text(system, form.parts["system"])}, *turns]
    tools = _part(form, row, "tools")
    described = read_tools(tools, form.parts.get("tools", ""))
    return Sample("conversation", place, tuple(turns), described, pictures=shown), odd


def _part(form: Format, row: Row, part: str) -> Any:
    """What the row has in a part that it may lack; None where it has none."""
    return row.get(form.parts[part]) if part in form.parts else None


def _pair(asked: Any, asks: str, answer: Any, answers: str) -> list[Message]:
    return [
        {"role": "user", "content": _text(asked, asks)},
        {"role": "assistant", "content": _target(answer, answers)},
    ]


def _text(value: Any, column: str) -> str:
    if not isinstance(value, str):
        what = "nothing (null)" if value is None else f"{_NAMES.get(type(value).__name__, 'no text')}, not text"
        raise RowError("content-type", f"`{column}` holds {what}.", column, value)
    return value


def _target(value: Any, column: str) -> str:
    text = _text(value, column)
    if not text.strip():
        raise RowError("target-empty", f"`{column}`, the text to learn, is empty.", column)
    return text


_NAMES = {"int": "a number", "float": "a number", "bool": "true or false", "list": "a list", "dict": "an object"}

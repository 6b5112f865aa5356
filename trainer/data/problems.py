"""What can be wrong with a row or a file: each kind with what it means and what mends it."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import Any, Literal

from trainer.data.samples import Place

Weight = Literal["error", "warning", "note"]  # cannot be learned from | can, but look at it | good to know
SHOWN = 60


@dataclass(frozen=True)
class Kind:
    """One kind of problem: `title` completes "so many rows with …"; `fix` says what a corrected copy would do, and is empty where only a person can know."""

    title: str
    weight: Weight
    meaning: str
    fix: str = ""


LEAVE_OUT = "Leave the row out."
KINDS: dict[str, Kind] = {
    "binary": Kind(
        "bytes that are no text",
        "error",
        "The line holds bytes that no text holds; something else was written into the file.",
    ),
    "csv-broken": Kind(
        "a broken table", "error", "The table cannot be read on from here; a quote is most likely never closed."
    ),
    "csv-fields": Kind(
        "a wrong number of fields",
        "error",
        "The row has another number of fields than the header, so its columns are a guess; a field that holds the separator stands in quotes.",
    ),
    "caption-missing": Kind(
        "no caption", "error", "Each picture of a folder needs a text file of its name that says what it shows."
    ),
    "class-counts": Kind("several classes", "note", "How many pictures there are of each class."),
    "class-empty": Kind(
        "no pictures of a class",
        "error",
        "A folder stands for a class and holds no picture; put some into it, or remove it.",
    ),
    "class-single": Kind(
        "one class alone", "error", "With one class there is nothing to tell apart; add pictures of another."
    ),
    "classes-uneven": Kind(
        "uneven classes",
        "warning",
        "A model that mostly sees one class learns to answer with that one; add pictures of the others.",
    ),
    "columns-extra": Kind("unused columns", "note", "The column is not used in training."),
    "columns-missing": Kind("a missing column", "error", "Without it there is nothing to learn from in this row."),
    "columns-unknown": Kind(
        "unknown columns",
        "error",
        "None of the known formats has these columns; name yours in `data.columns`, or in the first line of a table.",
    ),
    "content-empty": Kind("empty turns", "warning", "An empty turn teaches the model to say nothing there."),
    "content-type": Kind(
        "something that is not text",
        "error",
        "Only text can be learned here; a number or a list would be learned as its spelling.",
    ),
    "duplicate-key": Kind(
        "a column twice",
        "warning",
        "Of two columns with one name JSON keeps the last, so the first is lost without a word.",
    ),
    "duplicate-row": Kind(
        "the same content as another",
        "warning",
        "The same row again counts twice in training.",
        "Keep the first of them.",
    ),
    "encoding-broken": Kind(
        "bytes that are not UTF-8", "error", "These bytes are not UTF-8, so characters are lost or wrong."
    ),
    "encoding-latin": Kind(
        "Windows-1252 text",
        "error",
        "The file is not UTF-8; it looks like Windows-1252 (Latin-1).",
        "Convert it from Windows-1252 to UTF-8.",
    ),
    "encoding-mark": Kind(
        "a byte order mark", "note", "Harmless: the file begins with a byte order mark.", "Remove the mark."
    ),
    "encoding-utf16": Kind("UTF-16 text", "note", "Read as what it is: UTF-16 text.", "Convert it to UTF-8."),
    "format-mixed": Kind(
        "another format", "note", "Rows of several formats in one file work, but often a file was appended by mistake."
    ),
    "gzip-broken": Kind(
        "a damaged compressed file",
        "error",
        "The compressed file ends too early or is damaged; what follows cannot be read. Copy or download it again.",
    ),
    "json-array-broken": Kind(
        "a broken JSON list",
        "error",
        "The JSON list cannot be read on from here; the rows behind it were not looked at.",
    ),
    "json-broken": Kind("broken JSON", "error", "The line is not valid JSON."),
    "json-depth": Kind("endless nesting", "error", "Values are nested so deep that no reader should try."),
    "json-truncated": Kind(
        "an end in the middle",
        "error",
        "The file ends in the middle of a row; the copy or download was cut short, so fetch it again if you can.",
        LEAVE_OUT,
    ),
    "key-secret": Kind(
        "access keys",
        "warning",
        "What looks like a password or access key would be learned by heart; take it out, and change it if others have seen it.",
    ),
    "label-missing": Kind("no class", "error", "A label is the name of a class, or a whole number."),
    "leakage": Kind(
        "held-out rows in training",
        "warning",
        "A held-out row that is also trained on makes the model look better than it is; take it out of one of the two.",
    ),
    "leakage-prompt": Kind(
        "held-out questions in training",
        "warning",
        "The same question is in the training rows; the model has seen it with an answer.",
    ),
    "line-breaks": Kind("Windows line ends", "note", "Harmless: the lines end as on Windows.", "Use plain line ends."),
    "line-enormous": Kind(
        "an enormous line", "error", "No row is that long; line breaks are missing, or this is another kind of file."
    ),
    "line-long": Kind(
        "a very long row", "warning", "Far beyond what a model reads at once; it will be cut at `data.max_length`."
    ),
    "media-content": Kind("sound or video", "error", "Rows with sound or video cannot be trained on."),
    "messages-shape": Kind(
        "no list of turns", "error", "A conversation is a list of turns, each with a role and its content."
    ),
    "leakage-picture": Kind(
        "held-out pictures in training",
        "warning",
        "A held-out picture that is also trained on, or looks the same as one, makes the model look better than it is.",
    ),
    "near-duplicate": Kind(
        "almost the same content as another",
        "warning",
        "Almost the same as another row; many of these are learned by heart.",
    ),
    "no-answer": Kind(
        "no answer", "error", "There is no answer of the assistant, so there is nothing to learn; end the row with one."
    ),
    "not-finite": Kind(
        "NaN or Infinity",
        "error",
        "NaN and Infinity are not JSON; other programs refuse the file.",
        "Replace it with null.",
    ),
    "not-object": Kind(
        "no named columns", "error", 'A row is an object with named columns, as in {"prompt": …, "completion": …}.'
    ),
    "personal-email": Kind(
        "e-mail addresses", "warning", "A personal address would be learned by heart, and the model may say it."
    ),
    "picture-cmyk": Kind(
        "pictures for print", "note", "Converted from the colours of print (CMYK) to RGB, without their colour profile."
    ),
    "picture-deep": Kind(
        "pictures of more than eight bits", "note", "Scaled to eight bits a colour, which is what models take."
    ),
    "picture-elsewhere": Kind(
        "pictures on other machines",
        "error",
        "Pictures are read from this machine alone; fetch them first and name their files.",
    ),
    "picture-film": Kind("pictures that move", "note", "Only the first frame or page is learned."),
    "picture-missing": Kind(
        "missing pictures",
        "error",
        "There is no such file; paths count from the folder that the rows lie in.",
        LEAVE_OUT,
    ),
    "picture-outside": Kind(
        "pictures outside of the folder",
        "error",
        "Only pictures below the folder of the rows are opened, also behind links; move them there.",
    ),
    "picture-suffix": Kind(
        "pictures under a wrong name",
        "note",
        "Harmless: the file is of another kind than its name says, and read as what it is.",
    ),
    "picture-tiny": Kind(
        "pictures of one line", "note", "A side of one pixel shows nothing; look whether that is meant."
    ),
    "picture-transparent": Kind("transparent pictures", "note", "Laid on white where something shines through."),
    "picture-turned": Kind(
        "pictures to be turned", "note", "Turned as the camera's tag says, as any viewer shows them."
    ),
    "picture-unchecked": Kind(
        "pictures too much for the checker",
        "error",
        "Opening these took longer or more memory than one picture is allowed, or ended the checker.",
        LEAVE_OUT,
    ),
    "picture-unnamed": Kind(
        "no picture where one should be",
        "error",
        "A picture is a path, a data URL, or an object with `path`, `url` or `bytes`.",
    ),
    "picture-unreadable": Kind(
        "pictures that cannot be read",
        "error",
        "A run could not read them either: replace them, or take their rows out.",
        LEAVE_OUT,
    ),
    "pictures-alike": Kind(
        "pictures that look the same", "warning", "Pictures that look the same count several times in training."
    ),
    "pictures-count": Kind(
        "another number of pictures than places",
        "error",
        "Each picture needs a place: a part of the type `image`, or `<image>` in the text, as many as there are pictures.",
    ),
    "preference": Kind(
        "preference pairs",
        "error",
        "Rows of chosen and rejected answers are for preference training, which Fettle cannot do yet.",
    ),
    "role-order": Kind(
        "an odd order of turns", "warning", "Some chat templates refuse this order of turns, others show it oddly."
    ),
    "role-unknown": Kind("an unknown role", "error", "Turns are by system, user, assistant or tool."),
    "rows-unchecked": Kind(
        "too much for the checker",
        "error",
        "Checking these rows took more memory than one row is allowed, or ended the checker.",
    ),
    "surrogate": Kind(
        "half a character",
        "error",
        "Half of a character that was cut in two; tokenizers stop at it.",
        "Replace it with the mark for a lost character.",
    ),
    "target-empty": Kind("nothing to learn", "error", "The text to learn is empty or only spaces.", LEAVE_OUT),
    "tools-shape": Kind(
        "malformed tools",
        "error",
        "`tools` is a list of objects, each describing one tool, or such a list as JSON text.",
    ),
    "turn-fields": Kind("unused fields of turns", "note", "The turn has fields that are not used in training."),
}


@dataclass(frozen=True)
class Finding:
    """One place that is wrong: `detail` says what in a sentence, `field` in which column, `found` the text itself."""

    kind: str
    place: Place
    detail: str
    field: str = ""
    column: int | None = None
    found: str = ""

    @property
    def drops(self) -> bool:
        """Whether the row cannot be learned from."""
        return KINDS[self.kind].weight == "error"

    def __str__(self) -> str:
        where = f"{self.place}, column {self.column}" if self.column else str(self.place)
        shown = f" Found: {self.found}" if self.found else ""
        return f"{where}: {self.detail}{shown}"


class RowError(Exception):
    """A row that cannot be read as its format says; the place is known to whoever reads the rows."""

    def __init__(self, kind: str, detail: str, field: str = "", found: object = "") -> None:
        super().__init__(detail)
        self.kind, self.detail, self.field, self.found = kind, detail, field, shorten(found)

    def at(self, place: Place) -> Finding:
        """The problem, in its place."""
        return Finding(self.kind, place, self.detail, self.field, found=self.found)


Read = tuple[Place, Any, list[Finding]]  # one row of a file; the value counts only where no problem drops the row


def nothing(kind: str, place: Place, detail: str, *, column: int | None = None, found: str = "") -> Read:
    """A place where a row should be, and what is there instead."""
    return place, None, [Finding(kind, place, detail, column=column, found=shorten(found))]


_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = SHOWN


def shorten(value: object, most: int = SHOWN) -> str:
    """A value as one short printable line."""
    text = value if isinstance(value, str) else "" if value is None else _BRIEF.repr(value)
    clean = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: most * 2])
    return clean if len(clean) <= most and len(text) <= most * 2 else clean[: most - 1] + "…"

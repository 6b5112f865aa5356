"""The pictures that a row names or holds. Torch-free, and opens none."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainer.data.problems import RowError, shorten
from trainer.data.samples import PICTURE, Message, Picture

WRITTEN = "<image>"  # where a picture is, in texts beside a column of pictures
LONGEST_PATH = 4096
_DATA_URL = re.compile(r"data:[\w/.+-]*(;[\w=.-]+)*;base64,")
_ELSEWHERE = re.compile(r"(https?|s3|gs|ftp)://", re.IGNORECASE)


@dataclass
class Pictures:
    """Hands out the pictures of one row's column in order, and takes those that stand in its turns."""

    given: list[Picture]
    taken: list[Picture] = field(default_factory=list)

    @classmethod
    def of_column(cls, value: Any, column: str) -> Pictures:
        """The column's pictures: one, a list of them, or none."""
        if value in (None, "", []):
            return cls([])
        values = value if isinstance(value, list) else [value]
        return cls([read_picture(each, f"{column}[{index}]") for index, each in enumerate(values)])

    def take(self, part: dict[str, Any], where: str) -> str:
        """The sign for the picture that a part of a turn names; one that names none is the column's next."""
        named = next((part[name] for name in ("image", "image_url", "path", "url", "bytes") if part.get(name)), None)
        if named is not None:
            self.taken.append(read_picture(named, where))
        elif self.given:
            self.taken.append(self.given.pop(0))
        else:
            raise RowError("pictures-count", f"`{where}` names no picture, and no column holds one more.", where, part)
        return PICTURE

    def settle(self, turns: Sequence[Message]) -> tuple[list[Message], tuple[Picture, ...]]:
        """The turns with a sign for each picture, and the pictures in their order.

        Those of the column that no part has asked for stand where `<image>` is written, or else before the first
        question. Raises `RowError` where there are more or fewer of them.
        """
        left = self.given
        if not left:
            return list(turns), tuple(self.taken)
        written = sum(turn["content"].count(WRITTEN) for turn in turns)
        if self.taken or written not in (0, len(left)):
            places = len(self.taken) + written
            raise RowError(
                "pictures-count", f"there are {len(self.taken) + len(left)} pictures for {places} places.", found=places
            )
        settled = [replace_content(turn, turn["content"].replace(WRITTEN, PICTURE)) for turn in turns]
        if not written:
            first = next((number for number, turn in enumerate(turns) if turn["role"] == "user"), None)
            if first is None:
                raise RowError("pictures-count", "there is no question that the pictures could belong to.")
            settled[first] = replace_content(settled[first], PICTURE * len(left) + settled[first]["content"])
        return settled, tuple(left)


def replace_content(turn: Message, content: str) -> Message:
    """The turn with another text."""
    changed: Message = {**turn, "content": content}
    return changed


def read_picture(value: Any, where: str) -> Picture:
    """What names one picture: a path, a data URL, or an object with one of these. Raises `RowError`."""
    if isinstance(value, dict):
        named = next((value[name] for name in ("bytes", "url", "path", "image", "file_name") if value.get(name)), None)
        if named is not None:
            return read_picture(named, where)
    if not isinstance(value, str) or not value:
        raise RowError("picture-unnamed", f"`{where}` names no picture.", where, value)
    if len(value) > LONGEST_PATH and not value.startswith("data:"):
        detail = f"`{where}` is longer than any path; base64 needs `data:;base64,` in front of it."
        raise RowError("picture-unnamed", detail, where, value)
    found = _DATA_URL.match(value)
    if found:
        try:
            content = base64.b64decode(value[found.end() :], validate=True)
        except (binascii.Error, ValueError):
            raise RowError("picture-unnamed", f"`{where}` is no picture in base64.", where) from None
        return Picture(content=content)
    if _ELSEWHERE.match(value):
        raise RowError("picture-elsewhere", f"`{where}` lies on another machine.", where, value)
    return Picture(path=value.removeprefix("file://"))


def placed(pictures: Sequence[Picture], folder: Path) -> tuple[Picture, ...]:
    """The same pictures by their whole paths. Raises `RowError` for one that is not there, or outside of the folder."""
    return tuple(replace(each, path=_placed(each.path, folder)) if each.path else each for each in pictures)


def _placed(named: str, folder: Path) -> str:
    shown, root = shorten(named), os.path.realpath(folder)
    try:
        whole = os.path.realpath(folder / named)
        inside = os.path.commonpath((whole, root)) == root
    except ValueError:  # no path at all, or one of another drive
        inside = False
    if not inside:
        raise RowError("picture-outside", f"the picture {shown} lies outside of {folder}.")
    if not os.path.isfile(whole):
        raise RowError("picture-missing", f"there is no picture {shown} in {folder}.")
    return whole

"""Rows with pictures, in the ways that data sets write them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from trainer.data.doctor.row_check import RowCheck
from trainer.data.reading import read_samples
from trainer.data.samples import PICTURE, Picture, Place
from trainer.data.split import content_key
from trainer.errors import TrainError
from trainer.spec.data import Data

BYTES = b"\x89PNG a picture"
URL = "data:image/png;base64," + base64.b64encode(BYTES).decode()
ANSWER = {"role": "assistant", "content": "A cat."}


def rows(folder: Path, *content: dict[str, Any]) -> Data:
    for name in ("a.png", "b.png", "sub/c.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(BYTES)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return Data(train=str(folder / "rows.jsonl"))


def asked(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}, ANSWER]}


WHAT = {"type": "text", "text": "What is this?"}
FORMS: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "parts with paths": (asked({"type": "image", "image": "a.png"}, WHAT), f"{PICTURE}What is this?", ["a.png"]),
    "parts and a column": (
        {**asked({"type": "image"}, WHAT, {"type": "image"}), "images": ["a.png", "sub/c.png"]},
        f"{PICTURE}What is this?{PICTURE}",
        ["a.png", "sub/c.png"],
    ),
    "openai, a string": (asked(WHAT, {"type": "image_url", "image_url": "b.png"}), f"What is this?{PICTURE}", ["b.png"]),
    "openai, an object": (
        asked(WHAT, {"type": "image_url", "image_url": {"url": URL}}),
        f"What is this?{PICTURE}",
        ["bytes"],
    ),
    "written in the text": (
        {"messages": [{"role": "user", "content": "Is <image> as <image>?"}, ANSWER], "images": ["a.png", {"path": "b.png"}]},
        f"Is {PICTURE} as {PICTURE}?",
        ["a.png", "b.png"],
    ),
    "nowhere in the text": (
        {"prompt": "What is this?", "completion": "A cat.", "image": "a.png"},
        f"{PICTURE}What is this?",
        ["a.png"],
    ),
    "embedded bytes": (
        {"question": "What is this?", "answer": "A cat.", "image": {"bytes": URL, "path": None}},
        f"{PICTURE}What is this?",
        ["bytes"],
    ),
    "a caption": ({"image": "a.png", "text": "A cat."}, PICTURE, ["a.png"]),
    "no picture in this row": ({"prompt": "Hello", "completion": "A cat.", "images": []}, "Hello", []),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_pictures_stand_where_the_row_says(tmp_path: Path, form: str) -> None:
    row, text, names = FORMS[form]
    (sample,) = read_samples(rows(tmp_path, row)).train
    assert sample.messages[-2]["content"] == text
    assert sample.messages[-1]["content"] == "A cat."
    found = [
        "bytes" if each.content == BYTES else str(Path(each.path).relative_to(tmp_path)) for each in sample.pictures
    ]
    assert found == names


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "more pictures than places": ({**asked({"type": "image"}, WHAT), "images": ["a.png", "b.png"]}, "2 pictures for 1"),
    "fewer pictures": (
        {**asked({"type": "image"}, {"type": "image"}), "images": ["a.png"]},
        "no column holds one more",
    ),
    "fewer than written": ({"prompt": "<image><image>", "completion": "x", "images": ["a.png"]}, "1 pictures for 2"),
    "not there": ({"prompt": "x", "completion": "y", "image": "d.png"}, "there is no picture d.png"),
    "a folder": ({"prompt": "x", "completion": "y", "image": "sub"}, "there is no picture sub"),
    "above the folder": ({"prompt": "x", "completion": "y", "image": "../secret.png"}, "lies outside of"),
    "elsewhere on the disk": ({"prompt": "x", "completion": "y", "image": "/etc/passwd"}, "lies outside of"),
    "a link that leaves": ({"prompt": "x", "completion": "y", "image": "link.png"}, "lies outside of"),
    "on the net": ({"prompt": "x", "completion": "y", "image": "https://example.org/a.png"}, "on another machine"),
    "broken base64": ({"prompt": "x", "completion": "y", "image": "data:image/png;base64,%%%"}, "no picture in base64"),
    "base64 alone": ({"prompt": "x", "completion": "y", "image": "iVBOR/" * 2000}, "needs `data:;base64,` in front"),
    "no path": ({"prompt": "x", "completion": "y", "image": "a\0.png"}, "lies outside of"),
    "a number": ({"prompt": "x", "completion": "y", "image": 5}, "names no picture"),
    "a video": (asked({"type": "video", "video": "a.mp4"}, WHAT), "of the type 'video'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_shown_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    row, said = REFUSED[case]
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(BYTES)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(TrainError, match=said) as refused:
        read_samples(rows(folder, row))
    assert refused.value.code == "data-row-invalid"
    assert "rows.jsonl, line 1" in str(refused.value)


def test_rows_that_differ_in_their_picture_alone_are_no_duplicates(tmp_path: Path) -> None:
    one, other = read_samples(rows(tmp_path, *({"image": f"{name}.png", "text": "x"} for name in "ab"))).train
    assert content_key(one) != content_key(other)


def test_the_checker_looks_at_each_rows_pictures() -> None:
    """A row is not passed over because those before it were fine."""
    check = RowCheck("auto", "")
    for number, image in enumerate(("a.png", "b.png", "https://example.org/c.png", "d.png"), 1):
        check.add((Place("rows.jsonl", number, number), {"image": image, "text": "x"}, []))
    assert check.tally.usable == 3


def test_bytes_are_not_printed() -> None:
    assert "secret" not in repr(Picture(content=b"secret"))

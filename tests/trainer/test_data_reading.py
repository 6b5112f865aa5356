"""Data files: every accepted form becomes the same turns, every bad one is named by file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer.data.reading import read_file
from trainer.errors import TrainError

HELLO = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": HELLO},
        {"prompt": "Hi", "completion": "Hello"},
        {"prompt": HELLO[:1], "completion": HELLO[1:]},
        {"instruction": "Hi", "output": "Hello"},
        {"instruction": "Hi", "input": "", "output": "Hello"},
    ],
)
@pytest.mark.parametrize("as_array", [False, True])
def test_every_form_becomes_the_same_conversation(tmp_path: Path, row: object, as_array: bool) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([row]) if as_array else json.dumps(row) + "\n", encoding="utf-8")
    assert [list(sample.messages) for sample in read_file(path)] == [HELLO]


def test_a_byte_order_mark_windows_lines_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    line = json.dumps({"messages": HELLO})
    path.write_bytes(b"\xef\xbb\xbf" + f"{line}\r\n\r\n{line}\r\n".encode())
    assert [list(sample.messages) for sample in read_file(path)] == [HELLO, HELLO]


GOOD = json.dumps({"messages": HELLO})


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        ("", "data-empty", "no rows"),
        ("\n \n", "data-empty", "no rows"),
        (GOOD + '\n{"messages": [', "data-row-invalid", "line 2"),
        (GOOD + "\n" + GOOD[:-5], "data-row-invalid", "line 2"),
        ("[" + GOOD + ",\n2", "data-row-invalid", "line 2"),
        ("7", "data-row-invalid", "not an object"),
        ('{"question": "Hi"}', "data-row-invalid", "question"),
        ('{"messages": []}', "data-row-invalid", "empty list"),
        ('{"messages": "Hi"}', "data-row-invalid", "not a list"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "data-row-invalid", "role"),
        ('{"messages": [{"role": "user", "content": 7}]}', "data-row-invalid", "not text"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "data-row-invalid", "no turn of the assistant"),
        ('{"prompt": "x", "completion": "  "}', "data-row-invalid", "`completion`, the text to learn, is empty"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, content: str, code: str, says: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TrainError) as caught:
        read_file(path)
    assert caught.value.code == code
    assert says in caught.value.message
    assert "rows.jsonl" in caught.value.message
    assert caught.value.remedy


def test_bytes_that_are_not_text_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD.encode() + b"\n\xff\xfe\x00broken")
    with pytest.raises(TrainError, match="line 2"):
        read_file(path)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="There is no data file"):
        read_file(tmp_path / "none.jsonl")
    with pytest.raises(TrainError, match="is a folder"):
        read_file(tmp_path)

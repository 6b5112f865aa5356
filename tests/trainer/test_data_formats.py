"""Formats and shapes: what people have in their files becomes the same samples, and each place is right."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.data.reading import mixed_in, read_file, read_samples
from trainer.data.samples import Place, Sample
from trainer.errors import TrainError
from trainer.spec import Data

HI, HELLO = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
SYSTEM = {"role": "system", "content": "Be kind"}
CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "sky"}}}
TOOL = {"type": "function", "function": {"name": "look"}}


def one(tmp_path: Path, row: dict[str, Any], **settings: Any) -> Sample:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (sample,) = read_samples(Data(train=str(path), **settings)).train
    return sample


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"messages": [HI, HELLO]}, [HI, HELLO]),
        ({"messages": [HI, HELLO], "system": "Be kind"}, [SYSTEM, HI, HELLO]),
        ({"messages": json.dumps([HI, HELLO])}, [HI, HELLO]),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, HELLO]}, [HI, HELLO]),
        ({"messages": [{"role": "developer", "content": "Be kind"}, HI, HELLO]}, [SYSTEM, HI, HELLO]),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, [HI, HELLO]),
        ({"conversations": [HI, HELLO], "system": "Be kind"}, [SYSTEM, HI, HELLO]),
        ({"prompt": [HI], "completion": [HELLO]}, [HI, HELLO]),
        ({"prompt": "Hi", "completion": "Hello"}, [HI, HELLO]),
        ({"instruction": "Hi", "input": "", "output": "Hello", "system": "Be kind"}, [SYSTEM, HI, HELLO]),
        ({"instruction": "Hi", "output": "Hello", "history": [["Hi", "Hello"]]}, [HI, HELLO, HI, HELLO]),
        ({"question": "Hi", "answer": "Hello", "id": 7}, [HI, HELLO]),
        ({"query": "Hi", "response": "Hello"}, [HI, HELLO]),
        ({"source": "Hi", "target": "Hello"}, [HI, HELLO]),
    ],
)
def test_every_format_becomes_turns(tmp_path: Path, row: dict[str, Any], messages: list[Any]) -> None:
    assert list(one(tmp_path, row).messages) == messages


def test_a_column_without_a_name_is_no_part_of_any_format(tmp_path: Path) -> None:
    sample = one(tmp_path, {"prompt": "Hi", "completion": "Hello", "": "x"})
    assert list(sample.messages) == [HI, HELLO]


def test_plain_prompt_and_completion_keep_their_texts_beside_the_turns(tmp_path: Path) -> None:
    sample = one(tmp_path, {"prompt": "Hi", "completion": "Hello"})
    assert (sample.kind, sample.prompt, sample.completion) == ("completion", "Hi", "Hello")
    assert one(tmp_path, {"text": "Once upon"}).text == "Once upon"


def test_tools_and_their_calls_come_as_objects_however_they_are_written(tmp_path: Path) -> None:
    calls = {"function": {"name": "look", "arguments": '{"at": "sky"}'}}
    answer = {"role": "tool", "content": "blue", "name": "look"}
    openai = {"messages": [HI, {"role": "assistant", "content": None, "tool_calls": [calls]}, answer, HELLO]}
    sharegpt = {
        "conversations": [
            {"from": "human", "value": "Hi"},
            {"from": "function_call", "value": '{"name": "look", "arguments": {"at": "sky"}}'},
            {"from": "observation", "value": "blue"},
            {"from": "gpt", "value": "Hello"},
        ],
        "tools": json.dumps([TOOL]),
    }
    for row in (openai | {"tools": [TOOL]}, sharegpt):
        sample = one(tmp_path, row)
        assert [turn["role"] for turn in sample.messages] == ["user", "assistant", "tool", "assistant"]
        assert sample.messages[1] == {"role": "assistant", "content": "", "tool_calls": [CALL]}
        assert sample.tools == (TOOL,)


def test_columns_of_any_name_are_mapped(tmp_path: Path) -> None:
    row = {"frage": "Hi", "antwort": "Hello", "rolle": "Be kind"}
    with pytest.raises(TrainError, match="no known columns"):
        one(tmp_path, row)
    sample = one(tmp_path, row, columns="prompt=frage, completion=antwort, system=rolle")
    assert list(sample.messages) == [SYSTEM, HI, HELLO]
    assert one(tmp_path, {"body": "Once"}, columns="text=body").text == "Once"


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ("prompt=missing", "`data.columns` names `missing`, which is not among them"),
        ("prompt=messages, completion=gone", "`data.columns` names `gone`"),
        ("prompt=messages", "Beside `prompt`, `completion` is needed"),
        ("text=messages, prompt=messages", "no known columns"),
    ],
)
def test_a_mapping_that_fits_no_format_is_told_with_what_is_wrong_in_it(
    tmp_path: Path, columns: str, says: str
) -> None:
    with pytest.raises(TrainError, match=says) as caught:
        one(tmp_path, {"messages": [HI, HELLO]}, columns=columns)
    assert caught.value.code == "data-row-invalid"


def test_a_named_format_is_taken_even_where_the_columns_suggest_another(tmp_path: Path) -> None:
    row = {"messages": [HI, HELLO], "text": "Once"}
    assert one(tmp_path, row).kind == "conversation"
    assert one(tmp_path, row, format="text").text == "Once"
    with pytest.raises(TrainError, match="`instruction` is missing"):
        one(tmp_path, row, format="alpaca")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"},
        {"chosen": [HI, HELLO], "rejected": [HI, HELLO]},
        {"prompt": "Hi", "completion": "Hello", "label": True},
        {"messages": [HI, HELLO], "prompt": "Hi", "completion": "Hello", "kto_tag": True},
    ],
)
def test_preference_rows_are_recognised_and_refused_by_name(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(TrainError) as caught:
        one(tmp_path, row)
    assert caught.value.code == "data-preference"


@pytest.mark.parametrize("columns", ["question", "prompt:question", "prompt=", "colour=red"])
def test_a_mapping_that_is_none_is_refused_by_name(tmp_path: Path, columns: str) -> None:
    with pytest.raises(TrainError) as caught:
        one(tmp_path, {"text": "x"}, columns=columns)
    assert caught.value.code == "data-columns"


ROWS = [{"question": f'Hi {n}\nthere, "you"', "answer": f"Hello; {n}"} for n in range(3)]


def _csv(delimiter: str) -> str:
    quoted = [[value.replace('"', '""') for value in row.values()] for row in ROWS]
    return "\r\n".join(delimiter.join(f'"{field}"' for field in row) for row in [["question", "answer"], *quoted])


LINES = "\n".join(map(json.dumps, ROWS))
SHAPES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "lines": ("rows.jsonl", lambda: LINES.encode()),
    "lines without a suffix": ("rows", lambda: LINES.encode()),
    "windows line ends and a mark": ("rows.jsonl", lambda: b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode()),
    "packed lines": ("rows.jsonl.gz", lambda: gzip.compress(LINES.encode())),
    "packed, by content": ("rows.jsonl", lambda: gzip.compress(LINES.encode())),
    "a list": ("rows.json", lambda: json.dumps(ROWS, indent=2).encode()),
    "a list named lines": ("rows.jsonl", lambda: json.dumps(ROWS).encode()),
    "commas": ("rows.csv", lambda: _csv(",").encode()),
    "semicolons and a mark": ("rows.csv", lambda: b"\xef\xbb\xbf" + _csv(";").encode()),
    "tabs": ("rows.tsv", lambda: _csv("\t").encode()),
    "a table in UTF-16": ("rows.csv", lambda: _csv("\t").encode("utf-16")),
    "lines in UTF-16 without a mark": ("rows.jsonl", lambda: LINES.encode("utf-16-le")),
    "a packed table": ("rows.csv.gz", lambda: gzip.compress(_csv(",").encode())),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_same_rows_in_any_file_are_the_same_samples(tmp_path: Path, name: str) -> None:
    file, content = SHAPES[name]
    (tmp_path / file).write_bytes(content())
    samples = read_file(tmp_path / file)
    assert [sample.messages[0]["content"] for sample in samples] == [row["question"] for row in ROWS]
    assert [sample.messages[1]["content"] for sample in samples] == [row["answer"] for row in ROWS]
    assert [sample.place.row for sample in samples] == [1, 2, 3]


def test_a_row_of_a_table_has_the_line_where_it_begins(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(_csv(","), encoding="utf-8")
    assert [sample.place.line for sample in read_file(tmp_path / "rows.csv")] == [2, 4, 6]
    (tmp_path / "rows.json").write_text(json.dumps(ROWS, indent=1), encoding="utf-8")
    assert [sample.place.line for sample in read_file(tmp_path / "rows.json")] == [2, 6, 10]


def test_a_long_list_is_read_across_blocks(tmp_path: Path) -> None:
    rows = [{"text": f"{n} " + "é" * (n % 700)} for n in range(9000)]
    (tmp_path / "rows.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    assert [sample.text for sample in read_file(tmp_path / "rows.json")] == [row["text"] for row in rows]


def test_plain_text_is_cut_at_paragraphs_and_nothing_is_lost(tmp_path: Path) -> None:
    paragraphs = [f"# Part {n}\n\n" + "word " * (20 + n * 7 % 90) for n in range(40)] + ["x" * 900]
    text = "\n\n".join(paragraphs)
    (tmp_path / "book.md").write_text(text, encoding="utf-8")
    samples = read_samples(Data(train=str(tmp_path / "book.md"), chunk_characters=400)).train
    assert "".join("".join(sample.text.split()) for sample in samples) == "".join(text.split())
    assert all(len(sample.text) <= 400 for sample in samples)
    assert samples[0].place == Place("book.md", 1, 1)


def test_a_folder_gives_its_parts(tmp_path: Path) -> None:
    for name, text in (("train.jsonl", "a"), ("valid.jsonl", "b"), ("test.jsonl", "c")):
        (tmp_path / name).write_text(json.dumps({"text": text}), encoding="utf-8")
    found = read_samples(Data(train=str(tmp_path)))
    assert ([s.text for s in found.train], [s.text for s in found.held_out]) == (["a"], ["b"])


def test_parquet_without_an_environment_says_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and so on PAR1")
    with pytest.raises(TrainError) as caught:
        read_samples(Data(train=str(tmp_path / "rows.parquet")), None)
    assert caught.value.code == "data-needs-environment"
    with pytest.raises(TrainError) as caught:
        read_samples(Data(train="hub:somebody/rows"), None)
    assert caught.value.code == "data-needs-environment"


@pytest.mark.parametrize("name", ["hub:", "hub:a/b/c", "hub:../x", "hub:a b"])
def test_a_name_that_no_data_set_can_have_is_refused(name: str) -> None:
    with pytest.raises(TrainError) as caught:
        read_samples(Data(train=name))
    assert caught.value.code == "data-missing"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04rest", "ZIP"),
        (b"%PDF-1.7", "PDF"),
        (b"\x89PNG\r\n", "picture"),
        (b"SQLite format 3\0", "SQLite"),
        ("text".encode("utf-32"), "UTF-32"),
        (b"\n<!DOCTYPE HTML>\n<title>Sign in</title>", "web page"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(TrainError, match=says) as caught:
        read_file(tmp_path / "rows.csv")
    assert caught.value.code == "data-shape"


@pytest.mark.parametrize("header", ["a,,b", "a,b,a", "question, ,answer", "sep=,"])
def test_a_table_without_a_proper_header_is_refused(tmp_path: Path, header: str) -> None:
    (tmp_path / "rows.csv").write_text(f"{header}\n1,2,3\n", encoding="utf-8")
    with pytest.raises(TrainError, match="first line"):
        read_file(tmp_path / "rows.csv")


def test_bad_rows_are_dropped_only_when_asked_and_then_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n{"text": " "}\nbroken\n{"text": ""}\n{"text": "b"}\n', encoding="utf-8")
    with pytest.raises(TrainError, match="line 2"):
        read_samples(Data(train=str(path)))
    found = read_samples(Data(train=str(path), bad_rows="drop"))
    assert [sample.text for sample in found.train] == ["a", "b"]
    assert found.dropped == {"target-empty": 2, "json-broken": 1}
    assert found.first_dropped["target-empty"] == Place("rows.jsonl", 2, 2)
    assert "2 rows with nothing to learn left out, the first at rows.jsonl, line 2." in found.left_out()


def write(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text, "group": text[:1]}) + "\n" for text in texts), encoding="utf-8")
    return str(path)


def test_mixed_sets_come_as_often_as_their_weights_say(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.jsonl", ["a1", "a2"]), write(tmp_path / "b=.jsonl", ["b1", "b2", "b3", "b4"])
    data = Data(train=first, mix=f"{second} = 1.5; {first}=2")
    texts = [sample.text for sample in read_samples(data).train]
    assert texts.count("a1") == texts.count("a2") == 3
    assert len(texts) == 2 + 6 + 4
    assert texts == [sample.text for sample in read_samples(data).train]


@pytest.mark.parametrize("mix", ["b.jsonl", "b.jsonl=", "=2", "b.jsonl=0", "b.jsonl=-1", "b.jsonl=nan", "b.jsonl=many"])
def test_a_mixture_without_a_weight_is_refused_by_name(mix: str) -> None:
    with pytest.raises(TrainError) as caught:
        mixed_in(mix)
    assert caught.value.code == "data-mix"


def test_a_share_is_held_out_with_equal_rows_on_one_side(tmp_path: Path) -> None:
    texts = [f"{n % 50} text" for n in range(100)]
    data = Data(train=write(tmp_path / "rows.jsonl", texts), held_out_share=0.2)
    found = read_samples(data)
    trained, held = ({sample.text for sample in side} for side in (found.train, found.held_out))
    assert len(found.held_out) == 20 and len(found.train) == 80
    assert not trained & held
    assert [s.text for s in read_samples(data).held_out] == [s.text for s in found.held_out]
    other = read_samples(data.model_copy(update={"split_seed": 1}))
    assert {sample.text for sample in other.held_out} != held


def test_a_group_is_never_parted(tmp_path: Path) -> None:
    texts = [f"{group}{n}" for group in "abcdefgh" for n in range(5)]
    data = Data(train=write(tmp_path / "rows.jsonl", texts), held_out_share=0.25, split_by="group")
    found = read_samples(data)
    assert {s.text[0] for s in found.train}.isdisjoint({s.text[0] for s in found.held_out})
    assert len(found.held_out) == 10
    with pytest.raises(TrainError, match="no column `colour`"):
        read_samples(data.model_copy(update={"split_by": "colour"}))


@pytest.mark.parametrize("texts", [["a"], ["a", "a", "a"]])
def test_rows_that_cannot_be_parted_are_an_error_and_not_an_empty_side(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(TrainError) as caught:
        read_samples(Data(train=write(tmp_path / "rows.jsonl", texts), held_out_share=0.5))
    assert caught.value.code == "data-split"


def test_duplicates_are_dropped_only_when_asked_and_then_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ["a", "b", "a", "a"])
    assert len(read_samples(Data(train=path)).train) == 4
    found = read_samples(Data(train=path, deduplicate=True))
    assert [sample.text for sample in found.train] == ["a", "b"]
    assert found.dropped == {"duplicate-row": 2}
    assert found.first_dropped["duplicate-row"].line == 3

"""What the preview shows is what training learns, row by row and over the whole set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_masks import GEMMA, HARMONY, LLAMA3, MISTRAL, PHI, QWEN3, R1, make_tokenizer

from trainer.chat import Chat
from trainer.data import preview, templates
from trainer.data.masks import IGNORED, encode_all
from trainer.data.preview import Preview
from trainer.data.reading import read_samples
from trainer.errors import TrainError
from trainer.spec import Data

Lines = dict[str, list[dict[str, Any]]]


def talk(*turns: str) -> dict[str, Any]:
    return {"messages": [{"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(turns)]}


ROWS = [talk("Hi", "Hello."), talk("Grüße 🎉", "Danke 🎉!"), talk("a", "b", "c", "d"), talk("x" * 200, "y" * 200)]


def write(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def model(folder: Path, template: str | None, **named: Any) -> Path:
    make_tokenizer(folder, template, **named).save_pretrained(folder)
    return folder


def shown(folder: Path, data: Data, first: int = 1, rows: int = 20, statistics: bool = True) -> Lines:
    """All lines by their type."""
    request = {"model": str(folder), "data": data.model_dump(), "first": first, "rows": rows}
    found: Lines = {}
    for line in Preview().answer(
        {**request, "statistics": statistics, "token_cache": str(folder / "tokens")}, lambda: False
    ):
        found.setdefault(line["type"], []).append(line)
    return found


def all_tokens(lines: Lines) -> Iterator[tuple[int, str]]:
    for row in lines["row"]:
        for text in row["texts"]:
            yield from ((token["id"], token["state"]) for token in text["tokens"])


@pytest.mark.parametrize("truncation", ["end", "start"])
@pytest.mark.parametrize("template", [LLAMA3, QWEN3, GEMMA, MISTRAL, HARMONY, PHI, R1, None], ids=str)
def test_every_token_is_shown_with_the_label_that_training_gives_it(
    tmp_path: Path, template: str | None, truncation: Any
) -> None:
    data = Data(train=write(tmp_path, *ROWS), max_length=160, truncation=truncation)
    lines = shown(model(tmp_path / "m", template), data)
    tokenizer = make_tokenizer(tmp_path / "m", template)
    encoded = encode_all(tokenizer, read_samples(data).train, data)
    kept = [(token, state == "trained") for token, state in all_tokens(lines) if state != "cut"]
    learned = [
        (token, label != IGNORED)
        for example in encoded.examples
        for token, label in zip(example.ids, example.labels, strict=True)
    ]
    assert [each for each in kept if each[1]] == [each for each in learned if each[1]]
    if truncation == "start":  # with "end" the last row loses its whole answer, and is left out
        assert kept == learned
    (statistics,) = lines["statistics"]
    assert statistics["trained"] == sum(trained for _, trained in learned)
    assert sum(row["trained"] for row in lines["row"]) == statistics["trained"]
    assert statistics["texts"] == sum(statistics["lengths"]["counts"]) and statistics["longer"] >= 1
    assert any(state == "cut" for _, state in all_tokens(lines))


def test_the_tokens_texts_put_together_are_the_row(tmp_path: Path) -> None:
    data = Data(train=write(tmp_path, *ROWS))
    lines = shown(model(tmp_path / "m", LLAMA3), data, rows=2, statistics=False)
    row = lines["row"][1]["texts"][0]["tokens"]
    assert "".join(token["text"] for token in row) == (
        "<s><|start|>user\nGrüße 🎉<|end|><|start|>assistant\nDanke 🎉!<|end|>"
    )
    at = [token["text"] for token in row].index("🎉")
    assert [token["text"] for token in row[at : at + 5]] == ["🎉", "", "", "", "<|end|>"]
    assert "statistics" not in lines


def test_a_row_says_in_words_what_becomes_of_it(tmp_path: Path) -> None:
    data = Data(train=write(tmp_path, *ROWS), max_length=64)
    lines = shown(model(tmp_path / "m", LLAMA3), data, first=3)
    third, fourth = lines["row"]
    assert (third["number"], third["place"], third["findings"]) == (3, "rows.jsonl, line 3", [])
    assert [each["kind"] for each in fourth["findings"]] == ["row-unlearned", "row-cut", "answers-lost"]
    assert fourth["trained"] == 0 and fourth["cut"] > 300
    (statistics,) = lines["statistics"]
    assert "1 of 4 rows (25.0%; first rows.jsonl, line 4)" in statistics["findings"][0]["sentence"]
    assert lines["template"][0]["text"] == "The model's own chat template."


def test_a_very_long_text_is_listed_around_where_learning_begins_and_counted_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "MOST_SHOWN", 100)
    data = Data(train=write(tmp_path, ROWS[-1]), max_length=128, truncation="start")
    (row,) = shown(model(tmp_path / "m", LLAMA3), data)["row"]
    (text,) = row["texts"]
    states = [token["state"] for token in text["tokens"]]
    assert len(states) == 100 and states.index("trained") == 25
    assert text["hidden"] + 100 == row["trained"] + row["context"] + row["cut"]


def test_a_model_without_a_template_is_shown_the_one_that_suits_all_rows(tmp_path: Path) -> None:
    pair = {"prompt": "2+2=", "completion": "4"}
    folder = model(tmp_path / "m", None)
    answerer = Preview()
    for rows, name in (([pair, pair], "raw"), ([pair, ROWS[0]], "chatml"), ([pair, pair], "raw")):
        request = {"model": str(folder), "data": Data(train=write(tmp_path, *rows)).model_dump(), "first": 1, "rows": 1}
        asked = {**request, "statistics": True, "token_cache": str(tmp_path / "tokens")}
        lines = list(answerer.answer(asked, lambda: False))
        assert f"`{name}`" in lines[-3]["text"] and lines[-1]["type"] == "statistics"


@pytest.mark.parametrize(
    ("template", "settings", "code"),
    [
        (LLAMA3, {"max_length": 16}, "nothing-scored"),
        (None, {"template": "model"}, "template-missing"),
        (LLAMA3.replace("'user'", "'x'") + "{{ raise_exception('no') }}", {}, "template-refuses"),
        (LLAMA3, {"columns": "prompt=missing"}, "data-row-invalid"),
    ],
)
def test_what_training_would_refuse_is_refused_with_the_same_code(
    tmp_path: Path, template: str | None, settings: dict[str, Any], code: str
) -> None:
    data = Data(train=write(tmp_path, talk("How are you?", "Well.")), **settings)
    folder = model(tmp_path / "m", template)
    with pytest.raises(TrainError) as shown_first:
        shown(folder, data)
    with pytest.raises(TrainError) as trained:
        encode_all(make_tokenizer(folder, template), read_samples(data).train, data)
    assert shown_first.value.code == trained.value.code == code
    assert shown_first.value.message == trained.value.message


@pytest.mark.parametrize("settings", [{}, {"deduplicate": True}])
def test_a_row_behind_the_last_is_refused_with_how_many_there_are(tmp_path: Path, settings: Any) -> None:
    data = Data(train=write(tmp_path, *ROWS), **settings)
    with pytest.raises(TrainError, match="There is no row 5: 4 are trained on") as caught:
        shown(model(tmp_path / "m", LLAMA3), data, first=5)
    assert caught.value.code == "data-row-missing"


def test_rows_are_those_that_are_left_after_parting_and_mixing(tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps(talk("from", "the other")) + "\n")
    folder = model(tmp_path / "m", LLAMA3)
    mixed = shown(folder, Data(train=write(tmp_path, *ROWS), mix=f"{other} = 1"), first=5)
    assert [row["place"] for row in mixed["row"]] == ["other.jsonl, line 1"]
    parted = Data(train=write(tmp_path, *ROWS), held_out_share=0.5)
    lines = shown(folder, parted)
    assert [row["place"] for row in lines["row"]] == [str(each.place) for each in read_samples(parted).train]
    assert (lines["statistics"][0]["rows"], lines["statistics"][0]["held_out_rows"]) == (2, 2)


def test_whoever_stops_waiting_ends_the_work_and_leaves_no_half_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "LOOK_SECONDS", 0.01)
    data = Data(train=write(tmp_path, *(talk(f"{n}", "x" * 500) for n in range(4000))), max_length=2048)
    folder, seen = model(tmp_path / "m", LLAMA3), []
    request = {"model": str(folder), "data": data.model_dump(), "first": 1, "rows": 1, "statistics": True}
    for line in Preview().answer(
        {**request, "token_cache": str(tmp_path / "tokens")}, lambda: "into" in str(seen[-1:])
    ):
        seen.append(line)
    assert seen[-1]["type"] == "progress" and "into tokens" in seen[-1]["text"] and seen[-1]["share"] < 1
    assert list((tmp_path / "tokens").iterdir()) == []


LOOP = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (LOOP, "did not come to an end"),
        ("{% for a in range(10 ** 9) %}{% endfor %}", "computes powers"),
        ("{% for a in range(1000000000) %}{% endfor %}", "Range too big"),
        ("{{ 9 ** 9 ** 9 ** 9 }}", "computes powers"),
        ("{% if %}", "broken in its line 3"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "recursion"),
    ],
)
def test_a_template_that_does_not_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str, said: str
) -> None:
    monkeypatch.setattr(templates, "RENDER_SECONDS", 0.1)
    data = Data(train=write(tmp_path, *ROWS))
    with pytest.raises(TrainError) as caught:
        shown(model(tmp_path / "m", LLAMA3 + template), data)
    assert caught.value.code == "template-refuses" and said in caught.value.message

    assert shown(model(tmp_path / "n", "{% set x = dict(**{'a': 1}) %}" + LLAMA3), data)["statistics"]


def test_a_chat_ends_such_a_template_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "RENDER_SECONDS", 0.1)
    chat = Chat()
    monkeypatch.setattr(chat, "_load", lambda *_: None)  # no weight is needed to be refused
    chat._tokenizer = make_tokenizer(tmp_path, LLAMA3 + LOOP)
    asked = {"model": "", "adapter": "", "messages": talk("Hi")["messages"], "max_new_tokens": 1, "temperature": 0}
    with pytest.raises(TrainError, match=r"the conversation: .* did not come to an end") as caught:
        list(chat.answer(asked, lambda: False))
    assert caught.value.code == "template-refuses"

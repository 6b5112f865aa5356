"""`fettle data …` as people and programs call it; neither needs an environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.errors import AppError
from trainer.errors import TrainError

GOOD = [{"prompt": f"How much is {n}?", "completion": f"It is {n}."} for n in range(40)]


def fettle(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["data", *arguments], catch_exceptions=True)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in GOOD), encoding="utf-8")
    return path


def test_a_sound_file_is_called_sound(rows: Path) -> None:
    status, said = fettle("check", str(rows))
    assert status == 0
    assert "40 rows read, 40 can be learned from" in said and "Nothing is wrong" in said


def test_a_bad_row_is_shown_with_its_place_and_its_cure(rows: Path, tmp_path: Path) -> None:
    with rows.open("a") as stream:
        stream.write('{"prompt": "a", "completion": NaN}\nbroken\n{"prompt": "a", "completion": "b", "score": NaN}\n')
    status, said = fettle("check", str(rows), "--fix", str(tmp_path / "mended.jsonl"))
    assert status == 1
    assert "rows.jsonl, line 42, column 1: this is plain text" in said
    assert "41 rows written" in said
    assert [json.loads(line) for line in (tmp_path / "mended.jsonl").read_text().splitlines()] == [
        *GOOD,
        {"prompt": "a", "completion": "b", "score": None},
    ]
    assert fettle("check", str(tmp_path / "mended.jsonl"))[0] == 0


def test_programs_get_findings_as_they_come_and_the_whole_report_last(rows: Path) -> None:
    with rows.open("a") as stream:
        stream.write("broken\n")
    status, said = fettle("check", str(rows), "--json")
    *_, last = events = [json.loads(line) for line in said.splitlines()]
    assert status == 1
    (finding,) = [event for event in events if event["type"] == "finding"]
    assert (finding["kind"], finding["line"], finding["column"]) == ("json-broken", 41, 1)
    assert last["type"] == "done" and not last["sound"]
    assert (last["rows"], last["usable"], last["dropped"]) == (41, 40, {"json-broken": 1})
    assert last["findings"][0]["meaning"] and any(event["type"] == "progress" for event in events)


def test_a_folder_is_checked_against_its_own_held_out_rows(tmp_path: Path) -> None:
    for name in ("train.jsonl", "valid.jsonl"):
        (tmp_path / name).write_text(json.dumps(GOOD[0]) + "\n", encoding="utf-8")
    assert "leakage" in fettle("check", str(tmp_path))[1]
    assert "leakage" not in fettle("check", str(tmp_path), "--quick")[1]


def test_columns_and_format_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("frage;antwort\nHallo?;Guten Tag\n", encoding="utf-8")
    assert fettle("check", str(path))[0] == 1
    assert fettle("check", str(path), "--columns", "prompt=frage,completion=antwort")[0] == 0
    with pytest.raises(AppError) as caught:
        fettle("check", str(path), "--format", "best")
    assert caught.value.code == "setting-invalid"


def test_a_split_keeps_every_row_and_parts_no_equals(rows: Path, tmp_path: Path) -> None:
    rows.write_text(rows.read_text() * 2, encoding="utf-8")
    assert fettle("split", str(rows), "--output", str(tmp_path / "parts"), "--share", "0.25")[0] == 0
    train, held = ((tmp_path / "parts" / f"{name}.jsonl").read_text().splitlines() for name in ("train", "valid"))
    assert sorted(train + held) == sorted(rows.read_text().splitlines())
    assert len(held) == 20 and not set(train) & set(held)
    with pytest.raises(TrainError) as caught:
        fettle("split", str(rows), "--output", str(tmp_path / "parts"))
    assert caught.value.code == "data-output"


def test_parquet_without_an_environment_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1....PAR1")
    with pytest.raises(TrainError) as caught:
        fettle("check", str(tmp_path / "rows.parquet"))
    assert caught.value.code == "data-needs-environment"

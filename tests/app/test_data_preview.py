"""A preview as people and programs see it, and what it refuses before any environment is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from served import serving
from typer.testing import CliRunner

from app.api.schema_data import PreviewRow, PreviewStatistics
from app.cli import cli
from app.data_preview import preview_line
from app.errors import AppError
from app.models import STARTER
from app.preview_screen import Painter, bars, readable, summary
from trainer.errors import TrainError

TOKENS = [(5, "Say", "context"), (7, "\n", "trained"), (8, "é", "trained"), (9, "", "trained"), (3, "\x1b[2J", "cut")]


def row(**more: Any) -> PreviewRow:
    tokens = [{"id": id, "text": text, "state": state} for id, text, state in TOKENS]
    told = {"number": 1200, "place": "a.jsonl, line 3", "trained": 3, "context": 1, "cut": 1, "findings": []}
    return PreviewRow.model_validate({**told, "texts": [{"tokens": tokens, "hidden": 0}], **more})


def test_what_is_learned_can_be_told_without_colours() -> None:
    painter = Painter(colour=False)
    assert list(painter.row(row())) == [
        "Row 1,200, a.jsonl, line 3: 3 of 4 tokens are learned (75%), 1 cut off",
        "",
        "    Say[[↵]]",
        "    [[é]]~~\\x1b[2J~~",
    ]
    assert painter.legend().startswith("[[learned]]: the model learns to write this")


def test_colours_end_with_the_line_and_nothing_of_a_row_reaches_the_terminal_as_a_command() -> None:
    shown = "\n".join(Painter(colour=True).row(row()))
    assert "\x1b[2J" not in shown and "\\x1b[2J" in shown
    assert all(
        line.count("\x1b[1;32m") + line.count("\x1b[9;31m") == line.count("\x1b[0m") for line in shown.split("\n")
    )
    assert readable("a\tb\u200bc ü") == "a\\tb\\u200bc ü"


def test_tokens_can_be_listed_with_their_numbers() -> None:
    listed = list(Painter(colour=False).row(row(findings=[{"kind": "row-cut", "sentence": "it is cut"}]), ids=True))
    assert listed[2:] == [
        "         5  read     'Say'",
        "         7  learned  [['\\n']]",
        "         8  learned  [['é']]",
        "         9  learned  [[(a further part of the character above)]]",
        "         3  cut off  ~~'\\x1b[2J'~~",
        "  ! it is cut",
    ]


def test_bars_begin_with_the_shortest_row_and_mark_the_cut() -> None:
    assert list(bars([0, 10, 20, 30], [0, 80, 1], 20)) == [
        f"             10 to 19 |{'█' * 40} 80",
        "             20 to 29 |█ 1  <- rows are cut at 20",
    ]


def test_the_summary_names_share_lengths_and_findings() -> None:
    told = {
        "rows": 81, "held_out_rows": 9, "left_out": ["2 rows left out."], "texts": 81, "tokens": 400, "trained": 100,
        "longest": 29, "max_length": 20, "longer": 1, "lengths": {"scale": "linear", "edges": [0, 30], "counts": [81]},
        "findings": [{"kind": "row-cut", "rows": 1, "sentence": "1 of 81 rows: cut."}],
    }  # fmt: skip
    line = preview_line({"type": "statistics", "id": "x", **told})
    assert isinstance(line.statistics, PreviewStatistics)
    said = "\n".join(summary(line.statistics))
    assert "All 81 rows: 100 of 400 tokens are learned (25%)" in said and "9 rows are held out." in said
    assert "at most 29; 1 are longer than data.max_length (20)" in said and "! 1 of 81 rows: cut." in said


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["data", "preview", *arguments])
    assert isinstance(done.exception, (AppError, TrainError)), done.output
    return done.exception.code


def test_a_preview_without_model_or_environment_says_which_is_missing(tmp_path: Path) -> None:
    assert refused("ticket", "--model", str(tmp_path)) == "model-missing"
    assert refused("ticket", "--model", "starter") == "no-environment"
    assert refused("ticket", "--model", "starter", "--set", "data.max_lenght=9") == "setting-unknown"
    with serving() as served:
        asked = {"model": str(STARTER / "model"), "data": {"train": "ticket"}}
        answer = served.post("/api/data/preview", asked)
        assert (answer.status_code, answer.json()["code"]) == (400, "no-environment")
        assert answer.json()["action"] == "install"
        assert served.post("/api/data/preview", {**asked, "rows": 21}).status_code == 422


@pytest.mark.parametrize("line", [{"type": "failed", "code": "nothing-scored", "message": "m", "remedy": "r"}])
def test_a_failure_in_the_environment_is_a_problem_with_its_code(line: dict[str, Any]) -> None:
    told = json.loads(preview_line(line).model_dump_json(exclude_defaults=True))
    assert told["type"] == "failed" and told["problem"]["code"] == "nothing-scored"

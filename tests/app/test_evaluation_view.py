"""What a run was judged by, as terminal and page show it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.api.runs import worst
from app.api.schema_evaluation import EvaluationView
from app.errors import AppError
from app.operations import Operations
from app.paths import open_home
from app.terminal import evaluation_lines
from trainer.operation import Operation, create
from trainer.spec import RunSpec

MEASURE = {
    "name": "exact_match",
    "base": {"value": 0.0, "low": 0.0, "high": 0.04},
    "tuned": {"value": 0.95, "low": 0.888, "high": 0.978},
    "difference": {"value": 0.95, "low": 0.9, "high": 0.99},
    "better": True,
}
PERPLEXITY = {
    "name": "perplexity",
    "base": {"value": None, "low": None, "high": None},
    "tuned": {"value": 1234.5, "low": 1.004, "high": 2000.0},
    "difference": {"value": -0.5, "low": -0.75, "high": 0.25},
    "better": None,
}
WORST = {
    "place": "test.jsonl, line 3",
    "question": "Q",
    "expected": "A",
    "base": None,
    "tuned": "B",
    "right": False,
    "token_f1": 0.0,
    "base_loss": 2.0,
    "tuned_loss": 1.0,
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Operations, Path]:
    monkeypatch.setenv("FETTLE_HOME", str(tmp_path))
    home = open_home()
    folder = home.runs / "run-1"
    spec = RunSpec().model_dump(mode="json")
    create(folder, {"id": "run-1", "kind": "train", "title": "A run", "spec": spec, "generation": "g"})
    with Operation(folder) as operation:
        operation.emit("eval", side="base", rows=100, loss=2.0, exact_match=0.0)
        operation.emit("eval", side="tuned", rows=100, loss=1.0, exact_match=0.95)
        operation.emit("eval", side="comparison", rows=100, measures=[MEASURE, PERPLEXITY], verdict="Better: much.")
    return Operations(home), folder


def test_the_verdict_and_its_ranges_are_in_the_record(run: tuple[Operations, Path]) -> None:
    train = run[0].get("run-1").view().train
    assert train and train.evaluation
    assert train.evaluation.verdict == "Better: much." and train.evaluation.measures[0].better is True
    assert (
        evaluation_lines(train.evaluation)[1].split()
        == "exact match 0% (0% to 4%) 95% (89% to 98%) +95% (+90% to +99%)".split()
    )
    assert (
        "no number" in evaluation_lines(train.evaluation)[2]
        and "1,234 (1 to 2,000)" in evaluation_lines(train.evaluation)[2]
    )


def test_a_run_of_an_older_version_has_figures_and_no_verdict() -> None:
    old = EvaluationView(rows=4, base_loss=2.0, tuned_loss=1.0)
    assert (old.measures, old.verdict) == ([], "")


def test_the_worst_rows_come_from_the_file_and_a_damaged_one_is_named(run: tuple[Operations, Path]) -> None:
    operations, folder = run
    file = folder / "evaluation.json"
    for content in (None, "{", json.dumps({"worst": [{"place": 3}]})):
        if content is not None:
            file.write_text(content)
        with pytest.raises(AppError) as caught:
            worst("run-1", operations)
        assert caught.value.code == "evaluation-missing"
    file.write_text(json.dumps({"rows": 100, "worst": [WORST]}))
    assert worst("run-1", operations).worst[0].place == "test.jsonl, line 3"

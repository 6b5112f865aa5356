"""What a run would need, told while its form is filled in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from served import Served, serving

from app import estimating
from app.models import recommended_for
from app.operations import Operations
from app.paths import open_home
from trainer.operation import Operation, create
from trainer.spec import RunSpec
from trainer.starter import skills

STARTER = Path(skills.__file__).parent / "model"


@pytest.fixture
def served(own_home: Path) -> Iterator[Served]:
    with serving() as served:
        yield served


def asked(**changes: Any) -> dict[str, Any]:
    spec = RunSpec().with_changes(recommended_for("starter") | {"model": "starter", "data.train": "ticket"} | changes)
    return {"spec": spec.model_dump(mode="json")}


def test_rows_steps_and_parts_are_told_without_an_environment(served: Served) -> None:
    told = served.post("/api/runs/estimate", asked()).json()
    assert (told["device"], told["rows"], told["steps"]) == ("cpu", 400, 300)
    assert told["fits"] and told["text"] == "Fits with all 16 rows of a batch at once."
    parts = {part["name"]: part["bytes"] for part in told["memory"]["parts"]}
    assert sum(parts.values()) == told["memory"]["predicted"] < told["memory"]["free"]
    assert parts["adapter"] == 4 * 327_680  # as a run of these settings reports its trained parameters


def test_a_setting_moves_what_it_decides(served: Served) -> None:
    told = served.post("/api/runs/estimate", asked(**{"lora.rank": 64, "training.max_steps": 7})).json()
    assert told["steps"] == 7
    assert {part["name"]: part["bytes"] for part in told["memory"]["parts"]}["adapter"] == 2 * 4 * 327_680


@pytest.mark.parametrize(("sets", "bytes_each"), [(("avx2",), 4), (("avx2", "amx_bf16"), 2)])
def test_a_model_stored_in_bf16_is_held_in_it_where_the_processor_computes_in_it(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: tuple[str, ...], bytes_each: int
) -> None:
    here = replace(estimating.hardware(tmp_path), instruction_sets=sets)
    monkeypatch.setattr(estimating, "hardware", lambda _: here)
    shutil.copytree(STARTER, tmp_path / "model")
    config = tmp_path / "model/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "bfloat16"}))
    in_fp32, told = (
        served.post("/api/runs/estimate", asked(model=str(model))).json() for model in (STARTER, tmp_path / "model")
    )
    weights = [
        next(part["bytes"] for part in each["memory"]["parts"] if part["name"] == "weights") for each in (in_fp32, told)
    ]
    assert weights[1] * 4 == weights[0] * bytes_each


def test_what_does_not_fit_says_what_to_lower(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "free_memory", lambda: 100_000_000)
    told = served.post("/api/runs/estimate", asked()).json()
    assert not told["fits"] and told["text"].startswith("Expected not to fit with 1 row at once: lower")


def test_data_that_cannot_be_read_leaves_the_longest_row_of_the_settings(served: Served, tmp_path: Path) -> None:
    told = served.post("/api/runs/estimate", asked(**{"data.train": str(tmp_path / "none.jsonl")})).json()
    assert (told["rows"], told["steps"], told["longest"]) == (None, None, 256)


def test_a_changed_file_is_read_again(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for rows in (1, 3):
        path.write_text('{"text": "a row that is learned"}\n' * rows, encoding="utf-8")
        assert served.post("/api/runs/estimate", asked(**{"data.train": str(path)})).json()["rows"] == rows


def test_a_model_that_is_not_there_is_refused_as_at_the_start(served: Served, tmp_path: Path) -> None:
    answer = served.post("/api/runs/estimate", asked(model=str(tmp_path / "none")))
    assert (answer.status_code, answer.json()["code"]) == (400, "model-missing")


def test_a_model_of_the_hub_that_is_not_here_is_told_of(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", "/nowhere")
    answer = served.post("/api/runs/estimate", asked(model="hub:owner/name")).json()
    assert answer["code"] == "model-missing" and "fetches it" in answer["message"]


def test_a_run_shows_prediction_and_measurement_side_by_side() -> None:
    folder = open_home().runs / "run-1"
    spec = asked()["spec"]
    create(folder, {"id": "run-1", "kind": "train", "title": "A run", "spec": spec, "generation": "none"})
    about = {"predicted": 7, "parts": {"weights": 7}, "rough": False, "free": 9, "rows": 2, "recomputes": True}
    with Operation(folder) as operation:
        operation.emit("progress", memory={**about, "measured": None})
        operation.emit("progress", memory={**about, "measured": 8})
        operation.emit("progress", held=9)
    shown = Operations(open_home()).get("run-1").view().train
    assert shown and shown.memory
    assert [(part.title, part.bytes) for part in shown.memory.parts] == [("The model's weights", 7)]
    assert (shown.memory.predicted, shown.memory.measured, shown.memory.held) == (7, 8, 9)

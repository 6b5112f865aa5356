"""What a run's record says about its data is the same whether the files are small enough to be read at once or not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app import run_data
from trainer.errors import TrainError
from trainer.spec import RunSpec


@pytest.fixture(params=[10**9, 0], ids=["read", "counted"])
def large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_data, "LARGE", request.param)


def write(path: Path, *rows: str) -> str:
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return str(path)


def row(text: str) -> str:
    return json.dumps({"text": text})


@pytest.mark.usefixtures("large")
def test_rows_are_counted_with_those_that_are_left_out(tmp_path: Path) -> None:
    train = write(tmp_path / "a.jsonl", row("a"), "broken", row("b"), row(" "))
    mixed, aside = write(tmp_path / "b.jsonl", row("c")), write(tmp_path / "c.jsonl", row("d"))
    wanted = {"data.train": train, "data.mix": f"{mixed} = 1", "data.held_out": aside, "data.bad_rows": "drop"}
    found = run_data.data_record(RunSpec().with_changes(wanted), None)
    assert (
        found["data_fingerprint"]
        != run_data.data_record(RunSpec().with_changes(wanted | {"data.mix": ""}), None)["data_fingerprint"]
    )
    del found["data_fingerprint"]
    dropped = {"json-broken": 1, "target-empty": 1}
    assert found == {"rows": 3, "held_out_rows": 1, "rows_dropped": dropped}


@pytest.mark.usefixtures("large")
def test_a_bad_row_refuses_the_run_with_its_line(tmp_path: Path) -> None:
    spec = RunSpec().with_changes({"data.train": write(tmp_path / "a.jsonl", row("a"), "broken")})
    with pytest.raises(TrainError, match="line 2") as caught:
        run_data.data_record(spec, None)
    assert caught.value.code == "data-row-invalid"
    with pytest.raises(TrainError) as caught:
        run_data.data_record(spec.with_changes({"data.train": write(tmp_path / "b.jsonl", "")}), None)
    assert caught.value.code == "data-empty"


def test_a_data_set_of_the_hub_is_left_to_the_run() -> None:
    found = run_data.data_record(RunSpec().with_changes({"data.train": "hub:somebody/rows"}), None)
    assert found["rows"] is None and found["data_fingerprint"] == "hub:somebody/rows:@train"

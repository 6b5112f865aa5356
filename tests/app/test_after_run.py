"""What is done with a run after its end: refused before anything is written, and shown as what it is."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from app import after_run
from app.after_run import copy_adapter, start_evaluation, start_merge
from app.api.schema_after import JudgeRequest, MergeRequest
from app.cli import cli
from app.errors import AppError
from app.models import STARTER
from app.operations import Operations
from app.paths import open_home
from trainer.errors import TrainError
from trainer.operation import RECORD, Operation, create
from trainer.spec import RunSpec


@pytest.fixture
def operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operations:
    """A home with `run-1`, which has an adapter, and `run-2`, which has none."""
    monkeypatch.setenv("FETTLE_HOME", str(tmp_path / "home"))
    home = open_home()
    spec = RunSpec(model=str(STARTER / "model")).model_dump(mode="json")
    for name in ("run-1", "run-2"):
        create(home.runs / name, {"id": name, "kind": "train", "title": "Tickets", "spec": spec, "generation": "g"})
    adapter = home.runs / "run-1" / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    with Operation(home.runs / "run-1") as operation:
        operation.emit("done", adapter=str(adapter), train_seconds=1.0, real_tokens_per_second=1.0)
    with Operation(home.runs / "run-2") as operation:
        operation.emit("stopped", adapter=None, train_seconds=0.0, real_tokens_per_second=0.0)
    return Operations(home)


def code_of(act: Callable[[], Any]) -> str:
    with pytest.raises((AppError, TrainError)) as caught:
        act()
    return str(caught.value.code)


def test_without_an_adapter_there_is_nothing_to_do(operations: Operations, tmp_path: Path) -> None:
    for act in (
        lambda: start_merge(operations, "run-2", MergeRequest(output=str(tmp_path / "out"))),
        lambda: start_evaluation(operations, "run-2", JudgeRequest()),
        lambda: copy_adapter(operations, "run-2", tmp_path / "out"),
    ):
        assert code_of(act) == "adapter-missing"
    shutil.rmtree(operations.home.runs / "run-1" / "adapter")
    assert code_of(lambda: copy_adapter(operations, "run-1", tmp_path / "out")) == "adapter-missing"


def test_a_folder_that_holds_something_is_left_alone(operations: Operations, tmp_path: Path) -> None:
    for name in ("file", "full"):
        place = tmp_path / name
        if name == "full":
            place.mkdir()
            place = place / "thesis.txt"
        place.write_text("mine")
        for act in (
            lambda: start_merge(operations, "run-1", MergeRequest(output=str(tmp_path / name))),  # noqa: B023
            lambda: copy_adapter(operations, "run-1", tmp_path / name),  # noqa: B023
        ):
            assert code_of(act) == "output-not-empty"
        assert place.read_text() == "mine"
    below_a_file = str(tmp_path / "file" / "out")
    assert code_of(lambda: start_merge(operations, "run-1", MergeRequest(output=below_a_file))) == "output-unwritable"


def test_an_adapter_is_copied_whole_or_not_at_all(
    operations: Operations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    copied = copy_adapter(operations, "run-1", tmp_path / "empty")
    assert (copied / "adapter_model.safetensors").read_bytes() == b"weights"

    def full(_source: Path, target: Path) -> None:
        target.write_bytes(b"wei")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    assert code_of(lambda: copy_adapter(operations, "run-1", tmp_path / "other")) == "output-unwritable"
    monkeypatch.setattr(after_run.shutil, "disk_usage", lambda _: SimpleNamespace(free=6))
    assert code_of(lambda: copy_adapter(operations, "run-1", tmp_path / "other")) == "disk-full"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "home"]


@pytest.mark.parametrize(("precision", "bytes_each"), [(None, 4), ("fp32", 4), ("bf16", 2)])
def test_room_on_the_disk_is_looked_at_first(
    operations: Operations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Any, bytes_each: int
) -> None:
    parameters = 984_192  # of the starter
    asked = MergeRequest(output=str(tmp_path / "out"), precision=precision)
    enough = int(parameters * bytes_each * after_run.ROOM * 1.05)
    for free, code in ((parameters * bytes_each, "disk-full"), (enough, "no-environment")):
        monkeypatch.setattr(after_run.shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert code_of(lambda: start_merge(operations, "run-1", asked)) == code
    assert not (tmp_path / "out").exists()


def test_rows_that_are_not_there_are_named_before_a_process_starts(operations: Operations, tmp_path: Path) -> None:
    missing = JudgeRequest(data=str(tmp_path / "nothing.jsonl"))
    assert code_of(lambda: start_evaluation(operations, "run-1", missing)) == "data-missing"


def after(operations: Operations, kind: str) -> tuple[Path, Operation]:
    folder = operations.home.runs / f"{kind}-1"
    spec = RunSpec().model_dump(mode="json")
    record = {"id": folder.name, "kind": kind, "title": "Merge Tickets", "run": "run-1", "generation": "g"}
    create(folder, {**record, "spec": spec, "data": None})
    return folder, Operation(folder)


def test_an_export_shows_what_it_made_and_how_that_was_proved(operations: Operations) -> None:
    _, writing = after(operations, "export")
    with writing as operation:
        operation.emit("phase", phase="merging", text="Merging in fp32")
        view = operations.get("export-1").view()
        assert (view.state, view.after and view.after.text) == ("running", "Merging in fp32")
        assert operations.generations_in_use() == {"g"}
        operation.emit("progress", checked=True, text="4 of 4 answers", base="disk")
        operation.emit("done", output="/models/merged", difference=0.0)
    view = operations.get("export-1").view()
    assert view.after and (view.after.run, view.after.output, view.after.proof) == (
        "run-1",
        "/models/merged",
        "4 of 4 answers",
    )
    assert (view.state, view.train, operations.generations_in_use()) == ("done", None, set())


def test_one_that_was_killed_says_that_the_run_is_as_it_was(operations: Operations) -> None:
    folder, writing = after(operations, "evaluate")
    with writing as operation:
        operation.emit("phase", phase="model", text="Loading")
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps(record | {"created": 0}))
    view = operations.get("evaluate-1").view()
    assert view.state == "crashed" and view.problem and view.problem.code == "after-crashed"


@pytest.mark.parametrize("options", [[], ["--merged", "--adapter"], ["--adapter", "--dtype", "bf16"]])
def test_an_export_is_of_one_kind(operations: Operations, tmp_path: Path, options: list[str]) -> None:
    asked = CliRunner().invoke(cli, ["runs", "export", "run-1", "--output", str(tmp_path / "out"), *options])
    assert asked.exit_code == 2 and not (tmp_path / "out").exists()


def test_later_verdicts_are_no_runs(operations: Operations) -> None:
    after(operations, "evaluate")
    listed = CliRunner().invoke(cli, ["runs", "list", "--json"])
    assert [json.loads(line)["id"] for line in listed.output.splitlines()] in (["run-1", "run-2"], ["run-2", "run-1"])

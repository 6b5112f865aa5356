"""Events folded into one record: what every page and command shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.views import Followed
from trainer.operation import Operation, create
from trainer.spec import RunSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    record = {"id": "run-1", "kind": "train", "title": "t", "spec": RunSpec().model_dump(), "generation": "g"}
    create(tmp_path / "run-1", record)
    return tmp_path / "run-1"


def test_a_run_is_what_its_newest_events_say(folder: Path) -> None:
    followed = Followed(folder)
    assert followed.view().state == "starting"
    with Operation(folder) as operation:
        operation.emit("phase", phase="training", text="Training", steps=2)
        for step in (1, 2):
            operation.emit("step", step=step, steps=2, epoch=step / 2, loss=3.0 - step, learning_rate=0.1,
                           tokens_per_second=10.0, eta_seconds=1.0, memory_bytes=5)  # fmt: skip
        assert followed.refresh()
        running = followed.view()
        operation.emit("eval", side="base", rows=4, loss=2.0, exact_match=0.0)
        operation.emit("eval", side="tuned", rows=4, loss=1.0, exact_match=0.75)
        operation.emit("done", adapter="/a", train_seconds=3.0, real_tokens_per_second=9.0)
    assert running.state == "running" and running.train
    assert (running.train.step, running.train.steps, running.train.loss, running.train.eta_seconds) == (2, 2, 1.0, 1.0)
    assert followed.losses == [(1, 2.0), (2, 1.0)]
    assert followed.refresh()
    done = followed.view()
    assert done.state == "done" and done.train and done.train.evaluation
    assert (done.train.adapter, done.train.eta_seconds, done.train.evaluation.tuned_exact_match) == ("/a", None, 0.75)
    assert not followed.refresh()


def test_a_process_that_vanished_is_a_crash_with_a_remedy(folder: Path) -> None:
    with Operation(folder) as operation:
        operation.emit("hello")
    view = Followed(folder).view()
    assert view.state == "crashed"
    assert view.problem and view.problem.code == "run-crashed"


def test_a_failure_keeps_its_own_words_and_names_the_click_that_mends_it(folder: Path) -> None:
    with Operation(folder) as operation:
        operation.emit("failed", code="environment-broken", message="m", remedy="r")
    problem = Followed(folder).view().problem
    assert problem and (problem.code, problem.message, problem.remedy) == ("environment-broken", "m", "r")
    assert problem.action == "rollback"

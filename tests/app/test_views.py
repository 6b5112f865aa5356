"""Events folded into one record: what every page and command shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.installing import Events
from app.operations import read_log
from app.views import Followed
from env_manager.progress import StepProgress
from trainer import checkpoints
from trainer.operation import LOG, EventType, Operation, create, resume
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


def test_a_run_tells_what_it_trains_and_an_older_one_that_told_less_is_still_shown(folder: Path) -> None:
    with Operation(folder) as operation:
        operation.emit("progress", trained_parameters=5, parameters=50)
    train = Followed(folder).view().train
    assert train and (train.trained_parameters, train.coverage) == (None, [])
    row = {"part": "experts", "modules": 4, "trained": 3, "frozen": 1, "parameters": 5}
    with Operation(folder) as operation:
        operation.emit("progress", trained_parameters=5, parameters=50, coverage=[row])
    train = Followed(folder).view().train
    assert train and train.trained_parameters == 5 and train.coverage[0].model_dump() == row


def test_a_run_of_another_version_is_shown_without_the_settings_that_are_unknown_here(tmp_path: Path) -> None:
    tree = RunSpec(name="kept").model_dump()
    tree["training"] |= {"of_tomorrow": 3, "epochs": 4.0, "seed": "no number any more"}
    tree |= {"method": "of tomorrow"}
    create(tmp_path / "run-2", {"id": "run-2", "kind": "train", "title": "t", "spec": tree, "generation": "g"})
    train = Followed(tmp_path / "run-2").view().train
    assert train and (train.spec.name, train.spec.training.epochs, train.spec.training.seed) == ("kept", 4.0, 0)
    assert [each for each in train.warnings if "method, training.of_tomorrow, training.seed" in each]


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


def test_a_step_tells_its_rate_its_time_left_its_proof_and_its_part_of_the_log(tmp_path: Path) -> None:
    create(tmp_path / "install-1", {"id": "install-1", "kind": "install", "title": "t"})
    steps = [StepProgress(name, name, "waiting", bytes_total=100) for name in ("one", "two")]
    log = tmp_path / "install-1" / LOG
    with Operation(tmp_path / "install-1") as operation:
        events = Events(operation)
        for step in steps:
            events.step(step)
        log.write_text("before\n")
        events.step(replace(steps[0], state="running", bytes_done=40, bytes_per_second=20, seconds_left=3.0))
        running = Followed(operation.folder).view().install
        log.write_text("before\nof one\n")
        events.step(replace(steps[0], state="done", bytes_done=100, probe="one works"))
        events.step(replace(steps[1], state="failed", reason="two has no wheel"))
    done = Followed(operation.folder).view().install
    assert running and done
    first, second = running.steps
    assert (first.bytes_done, first.bytes_total, first.bytes_per_second, first.seconds_left) == (40, 100, 20, 3.0)
    assert (second.state, second.log_from) == ("waiting", None)
    first, second = done.steps
    assert (first.probe, first.bytes_per_second, first.seconds_left) == ("one works", None, None)
    assert (second.state, second.reason) == ("failed", "two has no wheel")
    assert first.log_from is not None
    assert read_log(operation.folder, first.log_from, until=first.log_to) == ("of one\n", first.log_to)


@pytest.mark.parametrize(
    ("message", "names"),
    [("uv said: No space left on device (os error 28)", ["disk-full"]), ("something that nobody has seen", [])],
)
def test_a_failed_installation_names_its_cause_where_it_is_known(
    tmp_path: Path, message: str, names: list[str]
) -> None:
    create(tmp_path / "install-1", {"id": "install-1", "kind": "install", "title": "t"})
    with Operation(tmp_path / "install-1") as operation:
        operation.emit("failed", code="install-failed", message=message, remedy="r")
    view = Followed(operation.folder).view()
    assert view.install and [each.name for each in view.install.findings] == names
    assert all(each.cause and each.remedy for each in view.install.findings)


def test_what_somebody_else_lets_go_on_is_noticed(folder: Path) -> None:
    with Operation(folder) as operation:
        operation.emit("paused", train_seconds=1.0)
    followed = Followed(folder)
    assert followed.ended and followed.resumable and not followed.woken()
    resume(folder)
    assert followed.woken() and followed.refresh()
    assert (followed.view().state, followed.resumable) == ("starting", False)
    with Operation(folder) as operation:
        operation.emit("hello", resumed_from=3)
        assert followed.woken() and followed.refresh()
        assert followed.view().state == "running"
        operation.emit("done", adapter=None, train_seconds=2.0)
    assert followed.refresh() and not followed.resumable and not followed.woken()


@pytest.mark.parametrize("how", ["stopped", "failed"])
def test_a_run_that_ended_early_can_go_on_exactly_where_it_left_a_checkpoint(folder: Path, how: EventType) -> None:
    with Operation(folder) as operation:
        operation.emit(how, code="disk-full", message="m", remedy="r", adapter=None, train_seconds=1.0)
    followed = Followed(folder)
    assert followed.why_not_resumable() == "it left no checkpoint"
    checkpoints.write(folder, 3, lambda into: into.joinpath("a").touch(), keep=1)
    assert followed.resumable

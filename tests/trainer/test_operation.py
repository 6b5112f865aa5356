"""The operation folder: what one process writes, every other reads the same."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import Timeout

from trainer.operation import (
    EVENTS,
    HANDOVER,
    STARTING_SECONDS,
    EventType,
    Operation,
    Tail,
    alive,
    ask,
    create,
    not_resumed,
    read_events,
    resume,
    state,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create(tmp_path / "op", {"id": "op", "kind": "train"})
    return tmp_path / "op"


def test_events_are_read_in_the_order_they_were_written(folder: Path) -> None:
    with Operation(folder) as operation:
        operation.emit("hello")
        operation.emit("step", step=1, loss=2.5)
    assert [(event["seq"], event["type"]) for event in read_events(folder)] == [(1, "hello"), (2, "step")]
    assert all(event["protocol"] == 1 for event in read_events(folder))


def test_a_torn_last_line_waits_for_its_rest(folder: Path) -> None:
    tail = Tail(folder)
    (folder / EVENTS).write_bytes(b'{"type": "hello", "seq": 1}\n{"type": "st')
    assert [event["type"] for event in tail.read()] == ["hello"]
    with (folder / EVENTS).open("ab") as stream:
        stream.write(b'ep", "seq": 2}\n')
    assert [event["type"] for event in tail.read()] == ["step"]


def test_an_operation_started_again_continues_after_a_torn_line(folder: Path) -> None:
    (folder / EVENTS).write_bytes(b'{"type": "hello", "seq": 7}\n{"type": "st')
    with Operation(folder) as operation:
        operation.emit("done")
    assert [(event["seq"], event["type"]) for event in read_events(folder)] == [(7, "hello"), (8, "done")]


def test_it_is_alive_exactly_as_long_as_its_process(folder: Path) -> None:
    code = "import sys,time,pathlib; from trainer.operation import Operation\n"
    code += "with Operation(pathlib.Path(sys.argv[1])) as o: o.emit('hello'); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)])
    try:
        while not read_events(folder):
            time.sleep(0.02)
        assert alive(folder)
        assert state(folder, read_events(folder)[-1]) == "running"
    finally:
        process.kill()
        process.wait()
    assert not alive(folder)
    assert state(folder, read_events(folder)[-1]) == "crashed"


def test_an_operation_handed_over_is_starting_until_the_next_process_should_have_come(folder: Path) -> None:
    with Operation(folder) as operation:
        last = operation.emit("phase", phase=HANDOVER)
    assert state(folder, last) == "starting"
    assert state(folder, last | {"time": time.time() - 2 * STARTING_SECONDS}) == "crashed"


def test_two_processes_cannot_run_one_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.operation.LOCK_SECONDS", 0.1)
    with Operation(folder), pytest.raises(Timeout), Operation(folder):
        pass


def test_a_finished_operation_keeps_its_state_without_a_process(folder: Path) -> None:
    with Operation(folder) as operation:
        last = operation.emit("stopped")
    assert state(folder, last) == "stopped"


def test_a_request_left_before_the_start_is_seen(folder: Path) -> None:
    ask(folder, "stop")
    with Operation(folder) as operation:
        assert operation.requested("stop")


@pytest.mark.parametrize("how", ["paused", "stopped", "failed"])
def test_what_goes_on_is_starting_until_its_process_reports(folder: Path, how: EventType) -> None:
    ask(folder, "pause")
    with Operation(folder) as operation:
        last = operation.emit(how)
    assert state(folder, last) == how
    resume(folder)
    assert state(folder, last) == "starting"
    with Operation(folder) as operation:
        assert not operation.requested("pause")  # what ended it before does not end it again
        assert state(folder, last) == "starting"
        last = operation.emit("hello")
        assert state(folder, last) == "running"
    assert state(folder, last) == "crashed"


def test_a_resumption_that_never_came_to_be_leaves_what_was(folder: Path) -> None:
    with Operation(folder) as operation:
        last = operation.emit("paused")
    resume(folder)
    not_resumed(folder)
    assert state(folder, last) == "paused"

"""A trainer that waits for a run before it is started: used where it fits exactly, and otherwise not there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from install_bench import Bench
from run_bench import built, forget, interpreters_of, start
from served import serving

from app import operations as starting
from app import processes, standby
from app.hub import Hub
from app.operations import Operations, follow_events
from app.paths import open_home
from app.standby import prepare_for
from env_manager.generations import Generation
from trainer.operation import LOG
from trainer.spec import RunSpec

pytestmark = pytest.mark.env
SPEC = RunSpec(model="starter").with_changes({"data.train": "ticket"})


@pytest.fixture(autouse=True)
def same_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep out the variable in which pytest names a test's phases."""
    monkeypatch.setattr(processes, "_NOT_INHERITED", (*processes._NOT_INHERITED, "PYTEST_"))


@pytest.fixture
def operations(generation: Generation) -> Iterator[Operations]:
    """Those of an app in which somebody fills in the form of a run."""
    operations = Operations(open_home())
    prepare_for(operations, SPEC)
    yield operations
    operations.standby.end()
    for child in operations._children:
        child.wait()


def waiting(operations: Operations) -> subprocess.Popen[bytes]:
    process = operations.standby._process
    assert process is not None
    return process


def ran_by(operations: Operations, **changes: object) -> tuple[str, list[dict[str, Any]], str]:
    """Which command became the trainer of a run, the run's events without their times, and its log."""
    followed = start(operations, **changes)
    child = operations._children[-1]
    events = [{key: value for key, value in event.items() if key != "time"} for event in follow_events(followed.folder)]
    child.wait()
    assert isinstance(child.args, list)
    return child.args[3], events, (followed.folder / LOG).read_text(encoding="utf-8")


def gone(generation: Generation) -> bool:
    deadline = time.monotonic() + 20
    while interpreters_of(generation) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not interpreters_of(generation)


def test_the_run_tells_the_same_as_one_that_was_started_for_it(operations: Operations, generation: Generation) -> None:
    """Also when it comes at once, while libraries are still loaded; the next run is an ordinary one."""
    (ahead, *told), (ordinary, *expected) = ran_by(operations), ran_by(operations)
    assert (ahead, ordinary) == ("standby", "train")
    assert told == expected
    assert "Traceback" in told[1]  # there is no torch here, and the run's log says so
    assert gone(generation)


def test_two_quick_starts_use_it_once(operations: Operations) -> None:
    children = [start(operations) and operations._children[-1].args for _ in range(2)]
    assert [args[3] for args in children if isinstance(args, list)] == ["standby", "train"]


def in_other_variables(_: Bench, monkeypatch: pytest.MonkeyPatch, __: Path) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")


def on_another_gpu(_: Bench, monkeypatch: pytest.MonkeyPatch, __: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")


def with_another_snapshot(_: Bench, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    real = starting.snapshot_trainer

    def other(trainers: Path) -> Path:
        return Path(shutil.copytree(real(trainers), folder / "other", dirs_exist_ok=True))

    monkeypatch.setattr(starting, "snapshot_trainer", other)


def in_another_generation(bench: Bench, _: pytest.MonkeyPatch, __: Path) -> None:
    small_environment(bench)


def small_environment(bench: Bench) -> Generation:
    """Another generation of the same content, which becomes the active one."""
    before = bench.store.active()
    assert before is not None
    after = bench.install()
    for name in ("filelock", "transformers"):
        packages = next(before.env.glob("lib/python*/site-packages"))
        shutil.copytree(packages / name, next(after.env.glob("lib/python*/site-packages")) / name, dirs_exist_ok=True)
    built(after, "transformers/__init__.py", "__version__ = '1.0'\n")
    return after


@pytest.mark.parametrize(
    "change",
    [in_other_variables, on_another_gpu, with_another_snapshot, in_another_generation],
    ids=lambda it: it.__name__,
)
def test_one_that_does_not_fit_is_not_used_and_ends(
    operations: Operations,
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    change: Callable[[Bench, pytest.MonkeyPatch, Path], None],
) -> None:
    process = waiting(operations)
    change(bench, monkeypatch, tmp_path)
    assert ran_by(operations)[0] != "standby"
    assert process.returncode is not None


@pytest.mark.parametrize("changes", [{"quantise": "4bit"}, {"optimizer.kind": "adamw-8bit"}, {"trust_code": "0" * 64}])
def test_a_run_that_needs_more_libraries_starts_in_the_ordinary_way(
    operations: Operations, changes: dict[str, object]
) -> None:
    assert ran_by(operations, **changes)[0] == "train"
    operations.standby.end()
    prepare_for(operations, SPEC.with_changes(changes))
    assert operations.standby._process is None


@pytest.mark.parametrize("whom", ["it", "its child"])
def test_one_that_was_killed_costs_nothing_but_its_advance(operations: Operations, whom: str) -> None:
    process = waiting(operations)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (child := children.read_text().split()):
        time.sleep(0.02)
    killed = process.pid if whom == "it" else int(child[0])
    os.kill(killed, signal.SIGKILL)
    while Path(f"/proc/{killed}/stat").read_text().rpartition(") ")[2][0] != "Z":
        time.sleep(0.02)
    _, events, _ = ran_by(operations)
    assert [event["type"] for event in events] == ["failed"]
    assert events[0]["code"] == "run-failed"  # there is no pydantic: a trainer's own word


def test_it_ends_with_the_app(operations: Operations, generation: Generation) -> None:
    process = waiting(operations)
    assert process.stdin
    process.stdin.close()  # as the system does for an app that is killed
    assert process.wait() == 0
    assert gone(generation)


def test_it_ends_when_nobody_wants_it(
    operations: Operations, generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "UNWANTED_SECONDS", 0.05)
    prepare_for(operations, SPEC)
    assert gone(generation)


def test_it_ends_when_another_environment_becomes_the_active_one(
    operations: Operations, generation: Generation, bench: Bench
) -> None:
    hub = Hub(operations)
    hub.environment()
    assert interpreters_of(generation)
    small_environment(bench)
    hub.environment()
    assert gone(generation)


def test_it_waits_on_while_the_form_is_filled_in(operations: Operations) -> None:
    before = waiting(operations)
    prepare_for(operations, SPEC.with_changes({"lora.rank": 4}))
    assert waiting(operations) is before


def little_memory(_: Generation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "free_memory", lambda: 3_000_000_000)


def a_run_under_way(_: Generation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Operations, "idle", lambda self: False)


def no_proof(generation: Generation, _: pytest.MonkeyPatch) -> None:
    forget(generation)


@pytest.mark.parametrize("why_not", [little_memory, a_run_under_way, no_proof], ids=lambda it: it.__name__)
def test_none_is_started_where(
    generation: Generation,
    monkeypatch: pytest.MonkeyPatch,
    why_not: Callable[[Generation, pytest.MonkeyPatch], None],
) -> None:
    why_not(generation, monkeypatch)
    operations = Operations(open_home())
    prepare_for(operations, SPEC)
    assert operations.standby._process is None


def test_the_server_prepares_one_for_whoever_asks_what_a_run_needs(generation: Generation) -> None:
    with serving() as served:
        served.post("/api/runs/estimate", {"spec": SPEC.model_dump(mode="json")})
        deadline = time.monotonic() + 20
        while not interpreters_of(generation) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert interpreters_of(generation)
    assert gone(generation)

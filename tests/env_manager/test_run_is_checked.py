"""Before a run its environment is checked: at once where that was proved, else by the run's own process."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from install_bench import Bench
from run_bench import built, forget, interpreters_of, ran, start

from app.operations import Operations, follow_events
from app.paths import open_home
from app.worker import Worker
from env_manager.generations import MANIFEST, Generation
from env_manager.proving.before_run import PROOF_NAME
from env_manager.proving.verify import site_packages
from trainer.operation import HANDOVER

pytestmark = pytest.mark.env
HANGS = "import time\ntime.sleep(600)\n"


def phases(events: list[dict[str, Any]]) -> list[str]:
    return [event["phase"] for event in events if event["type"] == "phase"]


def test_a_proved_environment_is_not_probed_again(generation: Generation) -> None:
    """The trainer starts at once, though a package would now hang if it were imported."""
    built(generation, "fx_first/__init__.py", HANGS)
    events, view = ran(Operations(open_home()))
    assert phases(events) == []
    assert view.problem.code == "run-failed"  # the trainer's own word


def test_without_a_proof_the_runs_own_process_checks_and_then_becomes_the_trainer(generation: Generation) -> None:
    forget(generation)
    events, view = ran(Operations(open_home()))
    assert phases(events) == ["preflight", HANDOVER]
    assert view.problem.code == "run-failed"
    assert (generation.folder / PROOF_NAME).exists()
    assert phases(ran(Operations(open_home()))[0]) == []


def test_starting_a_run_does_not_wait_for_its_checks_and_stopping_it_ends_them(generation: Generation) -> None:
    built(generation, "fx_first/__init__.py", HANGS)
    forget(generation)
    operations = Operations(open_home())
    followed = start(operations)
    events = follow_events(followed.folder)
    assert next(events)["phase"] == "preflight"
    assert operations.get(followed.id).view().state == "running"
    operations.stop(followed.id)
    assert [event["type"] for event in events] == ["stopped"]
    (child,) = operations._children
    child.wait()
    assert not interpreters_of(generation)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("crashes", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"),
        ("cannot be loaded", "raise OSError('libx.so: cannot open shared object file')\n"),
        ("something odd", "raise RuntimeError('something odd')\n"),
    ],
)
def test_a_run_is_refused_where_a_check_fails(generation: Generation, name: str, harm: str) -> None:
    """With cause, remedy and a click that leads somewhere; the Environment page shows it too."""
    built(generation, "fx_first/__init__.py", harm)
    forget(generation)
    operations = Operations(open_home())
    events, view = ran(operations)
    assert [event["type"] for event in events] == ["phase", "failed"]
    assert view.problem.code == "environment-unfit"
    assert name in view.problem.message
    assert view.problem.remedy
    assert view.problem.action == "repair"


def test_a_lost_file_refuses_the_run_although_all_was_proved(generation: Generation) -> None:
    (site_packages(generation.env) / "fx_first/payload.bin").unlink()
    _, view = ran(Operations(open_home()))
    assert view.problem.code == "environment-unfit"
    assert "fx_first/payload.bin" in view.problem.message


def test_a_model_of_an_unknown_type_is_refused_by_its_own_code(generation: Generation, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen9_moe"}')
    no_tensors = b"{}"
    (tmp_path / "model.safetensors").write_bytes(len(no_tensors).to_bytes(8, "little") + no_tensors)
    _, view = ran(Operations(open_home()), model=str(tmp_path))
    assert view.problem.code == "model-type-unknown"
    assert "qwen9_moe" in view.problem.message


@pytest.mark.parametrize("proved", [True, False])
def test_run_and_chat_see_only_the_gpu_that_was_chosen(
    bench: Bench, generation: Generation, proved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same function: what a run sees, a chat sees."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    torch = {**(generation.plan.get("torch") or {}), "devices": ["1"]}
    chosen = replace(generation, plan=dict(generation.plan) | {"torch": torch})
    (generation.folder / MANIFEST).write_text(json.dumps(chosen.record()))
    if not proved:
        forget(generation)
    seen = bench.store.root / "seen"
    tells = (
        f"import os\nwith open({str(seen)!r}, 'a') as out: print(os.environ.get('CUDA_VISIBLE_DEVICES'), file=out)\n"
    )
    built(generation, "tells.pth", "import tells\n")
    built(generation, "tells.py", tells)
    operations = Operations(open_home())
    ran(operations)
    last = seen.read_text().split()[-1]

    async def chat() -> None:
        worker = Worker(operations)
        async for _ in worker.ask(operations.active_generation(), {"type": "chat"}):
            pass
        await worker.close()

    seen.unlink()
    # In a thread of its own: a browser that another test has opened keeps a loop in this one.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, chat()).result()
    assert [last, *seen.read_text().split()] == ["1", "1"]

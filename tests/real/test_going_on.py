"""Runs that are paused or killed, and go on, by the product itself."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from product import Fettle

from trainer.operation import alive, read_events, read_record

pytestmark = pytest.mark.real
FEW = (
    "train --model starter --data ticket --set training.max_steps=30 --set training.checkpoint_every=5 "
    "--set lora.dropout=0.1 --set evaluation.generate=false"
).split()


def test_paused_and_killed_it_ends_with_the_adapter_of_an_uninterrupted_run(fettle: Fettle, tmp_path: Path) -> None:
    fettle(*FEW, "--output", str(tmp_path / "whole"))
    folder = tmp_path / "broken"
    starter = subprocess.Popen(
        fettle.argv(*FEW, "--output", str(folder)), env=fettle.environment(), stdout=subprocess.DEVNULL
    )
    until(lambda: steps(folder) >= 3)
    identity = read_record(folder)["id"]
    fettle("runs", "pause", identity)
    assert starter.wait() == 0
    assert state(fettle, identity) == "paused"
    assert not alive(folder)  # the process is gone, and with it what it held on the device
    going_on = subprocess.Popen(
        fettle.argv("runs", "resume", identity), env=fettle.environment(), stdout=subprocess.DEVNULL
    )
    until(lambda: steps(folder) >= 12)
    os.kill(trainer_of(folder), signal.SIGKILL)
    assert going_on.wait() == 1
    assert state(fettle, identity) == "crashed"
    events = fettle("runs", "resume", identity)
    assert events[0]["type"] == "hello" and events[0]["resumed_from"] in (5, 10, 15)  # nothing old is shown again
    assert events[-1]["type"] == "done"
    whole, again = (each / "adapter" / "adapter_model.safetensors" for each in (tmp_path / "whole", folder))
    assert whole.read_bytes() == again.read_bytes()
    (refused,) = fettle("runs", "resume", identity, status=1)
    assert refused["code"] == "run-not-resumable"


def trainer_of(folder: Path) -> int:
    """The process of the run itself, which has become the trainer."""
    ending = f"\0train\0{folder}\0".encode()
    return next(
        int(each.parent.name) for each in Path("/proc").glob("[0-9]*/cmdline") if each.read_bytes().endswith(ending)
    )


def steps(folder: Path) -> int:
    return max((event["step"] for event in read_events(folder) if event["type"] == "step"), default=0)


def state(fettle: Fettle, identity: str) -> Any:
    (shown,) = fettle("runs", "show", identity)
    return shown["state"]


def until(happened: Callable[[], bool]) -> None:
    while not happened():
        time.sleep(0.05)

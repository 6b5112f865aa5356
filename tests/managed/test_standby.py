"""A trainer that waited for its run makes the same run, bit for bit; and what it loads ahead, it may load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from trainer.operation import LOG, alive, create, read_events
from trainer.spec import RunSpec
from trainer.starter import skills

STARTER = Path(skills.__file__).parent / "model"
CHECKOUT = Path(skills.__file__).parents[2]
ENTRY = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); from trainer.__main__ import start; start()"
MEASURED = {"time", "seq", "seconds", "tokens_per_second", "eta_seconds", "memory_bytes", "memory", "held", "chosen"}
MEASURED |= {"folder", "adapter", "train_seconds", "real_tokens_per_second", "path"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return a_run(tmp_path / "run", skills_in(tmp_path))


def skills_in(folder: Path) -> Path:
    skills.write(folder / "data", "ticket", training=30, held_out=4)
    return folder / "data"


def a_run(folder: Path, data: Path) -> Path:
    """The folder of a run of four steps that nobody has started."""
    changes = {
        "model": str(STARTER),
        "data.train": str(data / "train.jsonl"),
        "data.held_out": str(data / "held_out.jsonl"),
        "training.max_steps": 4,
        "training.batch_size": 4,
    }
    spec = RunSpec().with_changes(changes).model_dump(mode="json")
    create(folder, {"id": folder.name, "kind": "train", "title": "A run", "spec": spec})
    return folder


def ordinary(folder: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-I", "-c", ENTRY, "train", str(folder)]
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def waiting(folder: Path) -> subprocess.Popen[bytes]:
    """As the app starts it."""
    argv = [sys.executable, "-I", "-c", ENTRY, "standby"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        argv, cwd=folder, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, bufsize=0, start_new_session=True
    )


def order(process: subprocess.Popen[bytes], folder: Path) -> None:
    assert process.stdin
    process.stdin.write(json.dumps(str(folder)).encode() + b"\n")
    process.stdin.close()


def child_of(process: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (found := children.read_text().split()):
        time.sleep(0.02)
    return int(found[0])


def has_loaded(process: int) -> bool:
    """Whether torch is there, and nothing more is being loaded."""
    before = ticks(process)
    time.sleep(1.0)
    return "libtorch" in Path(f"/proc/{process}/maps").read_text() and ticks(process) == before


def ticks(process: int) -> int:
    """The processor time that it has taken."""
    return sum(map(int, Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]))


def told(folder: Path) -> list[dict[str, Any]]:
    """A run's events without what is measured anew each time."""
    return [{key: value for key, value in event.items() if key not in MEASURED} for event in read_events(folder)]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "adapter").iterdir() if path.suffix == ".safetensors"}


@pytest.mark.parametrize("early", [True, False], ids=["while it loads", "when it has loaded"])
def test_the_run_is_the_same_as_one_that_was_started_for_it(tmp_path: Path, early: bool) -> None:
    data = skills_in(tmp_path)
    ahead, expected = a_run(tmp_path / "ahead", data), a_run(tmp_path / "ordinary", data)
    assert ordinary(expected).wait() == 0
    process = waiting(tmp_path)
    while not early and not has_loaded(child_of(process)):
        pass
    order(process, ahead)
    assert process.wait() == 0
    assert told(ahead)[-1]["type"] == "done"
    assert told(ahead) == told(expected)
    assert files(ahead) == files(expected) != {}
    assert "Loading weights" in (ahead / LOG).read_text(encoding="utf-8")


def test_the_folder_is_held_from_the_order_on(folder: Path) -> None:
    """Also while libraries are still loaded: who looks must not take the run for crashed."""
    process = waiting(folder)
    child_of(process)
    order(process, folder)
    while not alive(folder):
        time.sleep(0.01)
    assert not read_events(folder)  # `hello` comes when everything is loaded
    process.terminate()
    process.wait()


def test_one_whose_child_was_killed_trains_in_another(folder: Path) -> None:
    process = waiting(folder)
    child = child_of(process)
    os.kill(child, signal.SIGKILL)
    while Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2][0] != "Z":  # a large process takes a while to end
        time.sleep(0.02)
    order(process, folder)
    assert process.wait() == 0
    assert read_events(folder)[-1]["type"] == "done"


def test_a_torn_order_starts_nothing(folder: Path) -> None:
    process = waiting(folder)
    assert process.stdin
    process.stdin.write(json.dumps(str(folder)).encode()[:-3])
    process.stdin.close()
    assert process.wait() == 0
    assert not read_events(folder)


LOOKS = """
import torch
def looked(*_): raise SystemExit("CUDA was looked at")
for name in ("is_available", "device_count", "_lazy_init", "get_device_properties"):
    setattr(torch.cuda, name, looked)
from trainer.needs import leave_out_bitsandbytes
leave_out_bitsandbytes()
import trainer.loop
assert "torch._inductor.compile_fx" not in sys.modules
"""


def test_what_is_loaded_ahead_does_not_look_at_cuda() -> None:
    """After the first look no other GPU can be chosen; and a process that waits is to take no memory of one."""
    code = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\n" + LOOKS
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

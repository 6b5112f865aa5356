"""A run that was killed, paused or stopped goes on as if nothing had happened, bit for bit."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from transformers import LlamaConfig, LlamaForCausalLM

from trainer import checkpoints
from trainer.data import batches
from trainer.errors import TrainError
from trainer.loop import train
from trainer.models.tokenizer import load_tokenizer
from trainer.operation import Operation, ask, create, read_events, resume
from trainer.report import Report
from trainer.snapshot import OPTIMIZER, RANDOM, TRAINABLE, Progress, Snapshot, put_back, take
from trainer.spec import RunSpec
from trainer.starter import skills

STARTER = Path(skills.__file__).parent / "model"
STEPS = 24
Events = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    """24 steps of 2 batches of 3 rows over 50 rows, with dropout: kills fall into each of three epochs."""
    folder = tmp_path_factory.mktemp("data")
    skills.write(folder, "ticket", training=50, held_out=2)
    tokenizer = load_tokenizer(STARTER)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    ).save_pretrained(folder)
    return RunSpec().with_changes(
        {
            "model": str(folder),
            "data.train": str(folder / "train.jsonl"),
            "lora.dropout": 0.2,
            "optimizer.learning_rate": 5e-3,
            "training.max_steps": STEPS,
            "training.precision": "fp32",  # a forked child cannot always convert to bf16: its pool of threads is gone
            "training.batch_size": 3,
            "training.gradient_accumulation": 2,
            "training.threads": 1,
            "training.checkpoint_every": 5,
        }
    )


def run(folder: Path, spec: RunSpec) -> Events:
    """Run, or go on, in this process."""
    if not folder.exists():
        create(folder, {"id": folder.name, "kind": "train", "title": "A run"})
    with Operation(folder) as operation:
        train(operation, spec)
    return read_events(folder)


def in_child(act: Callable[[], object]) -> int:
    """What the exit status of a process is that does this; it is forked, so torch need not be loaded again."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def disturb_random_states() -> None:
    """What another process would begin with: other random states than the run left."""
    torch.manual_seed(99)
    random.seed(99)
    np.random.seed(99)


def run_killed_after(folder: Path, spec: RunSpec, step: int, written: int | None = None) -> None:
    """Train in a child that kills itself when it has reported this step, and has written that one's checkpoint."""

    def act() -> None:
        reported = Report.step

        def step_then_die(self: Report, progress: Any, **figures: Any) -> None:
            reported(self, progress, **figures)
            if progress.step == step:
                there = folder / checkpoints.FOLDER / f"step-{written or 0:06}"
                while written and not there.exists():  # it is written beside the steps
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGKILL)

        Report.step = step_then_die  # type: ignore[method-assign]
        run(folder, spec)

    assert in_child(act) == -signal.SIGKILL


def go_on(folder: Path, spec: RunSpec) -> Events:
    """Go on in a process of its own."""

    def act() -> None:
        disturb_random_states()
        run(folder, spec)

    assert in_child(act) == 0
    return read_events(folder)


def outcome(folder: Path) -> dict[str, object]:
    """All that has to be the same: the last checkpoint's files by hash, its state, the adapter, the losses by step."""
    last = checkpoints.newest(folder)
    assert last.folder and last.step == STEPS
    files = json.loads((last.folder / checkpoints.MANIFEST).read_text())["files"]
    state = json.loads((last.folder / "state.json").read_text())
    del state["progress"]["seconds"]
    steps = [event for event in read_events(folder) if event["type"] == "step"]
    return {
        "files": {name: files[name]["sha256"] for name in (TRAINABLE, OPTIMIZER, RANDOM)},
        "state": state,
        "adapter": (folder / "adapter" / "adapter_model.safetensors").read_bytes(),
        "steps": {each["step"]: (each["loss"], each["grad_norm"], each["tokens"], each["scored"]) for each in steps},
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, spec: RunSpec) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    go_on(folder, spec)
    return outcome(folder)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_killed_after_any_step_it_ends_as_if_uninterrupted(
    tmp_path: Path, spec: RunSpec, uninterrupted: dict[str, object], step: int
) -> None:
    folder = tmp_path / "run"
    run_killed_after(folder, spec, step)
    events = go_on(folder, spec)
    resumed = next((event["resumed_from"] for event in events if "resumed_from" in event), 0)
    # The newest checkpoint may not have been durable yet; the one before it was waited for.
    assert resumed in (step // 5 * 5, max(0, step // 5 * 5 - 5))
    assert outcome(folder) == uninterrupted


def test_killed_again_and_again_it_ends_as_if_uninterrupted(
    tmp_path: Path, spec: RunSpec, uninterrupted: dict[str, object]
) -> None:
    for step in (7, 11, 13, 24):
        run_killed_after(tmp_path / "run", spec, step)
    go_on(tmp_path / "run", spec)
    assert outcome(tmp_path / "run") == uninterrupted


def test_rows_end_to_end_end_as_if_uninterrupted_too_and_learn_what_padded_ones_learn(
    tmp_path: Path, spec: RunSpec
) -> None:
    spec = spec.with_changes({"training.end_to_end": "off"})
    flat = spec.with_changes({"training.end_to_end": "auto"})
    whole, killed, padded = (tmp_path / name for name in ("whole", "killed", "padded"))
    events = run(whole, flat)
    assert any("end to end" in event.get("chosen", {}).get("rows", "") for event in events)
    run_killed_after(killed, flat, 11)
    go_on(killed, flat)
    assert outcome(killed) == outcome(whole)
    losses, others = ([e["loss"] for e in found if e["type"] == "step"] for found in (events, run(padded, spec)))
    assert losses == pytest.approx(others, rel=0.01)  # dropout draws its noise for other shapes


@pytest.mark.parametrize("how", ["pause", "stop", "SIGTERM"])
def test_paused_or_stopped_in_the_middle_it_goes_on_from_that_step(
    tmp_path: Path, spec: RunSpec, uninterrupted: dict[str, object], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, reported = tmp_path / "run", Report.step

    def step_then_ask(self: Report, progress: Any, **figures: Any) -> None:
        reported(self, progress, **figures)
        if progress.step == 8 and how == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
        elif progress.step == 8:
            ask(folder, "stop" if how == "stop" else "pause")

    with monkeypatch.context() as patched:
        patched.setattr(Report, "step", step_then_ask)
        last = run(folder, spec)[-1]
    assert last["type"] == ("stopped" if how == "stop" else "paused")
    assert (folder / "adapter").exists() == (how == "stop")
    resume(folder)
    events = go_on(folder, spec)
    assert [event["resumed_from"] for event in events if "resumed_from" in event] == [8]
    assert [event["step"] for event in events if event["type"] == "step"] == list(range(1, STEPS + 1))
    assert events[-1]["type"] == "done"
    assert outcome(folder) == uninterrupted


def test_the_rows_after_a_resumption_are_those_that_would_have_come() -> None:
    examples = [batches.Example([row, row], [row, row]) for row in range(50)]

    def rows(taken: int, count: int) -> list[list[int]]:
        stream = batches.training_batches(examples, 0, 3, 7, taken)
        return [next(stream).input_ids[:, 0].tolist() for _ in range(count)]

    whole = rows(0, 60)
    assert all(rows(taken, 60 - taken) == whole[taken:] for taken in (1, 16, 17, 18, 34, 59))


@pytest.mark.parametrize("file", [TRAINABLE, OPTIMIZER, RANDOM, "state.json", checkpoints.MANIFEST])
@pytest.mark.parametrize("how", ["cut", "flipped", "gone"])
def test_a_damaged_checkpoint_is_skipped_with_a_word(
    tmp_path: Path, spec: RunSpec, uninterrupted: dict[str, object], file: str, how: str
) -> None:
    folder = tmp_path / "run"
    run_killed_after(folder, spec, 13, written=10)
    newest = folder / checkpoints.FOLDER / "step-000010"
    content = (newest / file).read_bytes()
    if how == "gone":
        (newest / file).unlink()
    else:
        half = len(content) // 2
        flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        (newest / file).write_bytes(content[:half] if how == "cut" else flipped)
    found = checkpoints.newest(folder)
    if file == checkpoints.MANIFEST and found.step == 10:
        return  # the flipped bit changed the manifest's white space
    assert (found.step, len(found.damaged)) == (5, 1)
    if (file, how) == (OPTIMIZER, "flipped"):
        events = go_on(folder, spec)
        assert [event["message"] for event in events if event["type"] == "warning"] == [
            f"A checkpoint is damaged and was skipped: step-000010: {OPTIMIZER} is not what was written."
        ]
        assert outcome(folder) == uninterrupted


def test_every_random_state_comes_back(tmp_path: Path) -> None:
    def draw() -> tuple[float, float, float, float]:
        return torch.rand(()).item(), random.random(), random.gauss(), np.random.standard_normal()

    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    draw()  # numpy and python keep the second half of a pair of normal numbers
    take(Progress(), model, optimizer, None, {}, {}).write(tmp_path)
    expected = [draw() for _ in range(3)]
    disturb_random_states()
    put_back(tmp_path, model, optimizer, None)
    assert [draw() for _ in range(3)] == expected


def test_other_data_than_the_run_began_with_is_refused(tmp_path: Path, spec: RunSpec) -> None:
    data = tmp_path / "train.jsonl"
    data.write_bytes(Path(spec.data.train).read_bytes())
    changed = spec.with_changes({"data.train": str(data)})
    run_killed_after(tmp_path / "run", changed, 7, written=5)
    data.write_text("".join(data.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(TrainError) as caught:
        run(tmp_path / "run", changed)
    assert caught.value.code == "data-changed"


def test_a_writer_killed_at_any_moment_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    """The n-th call that makes something durable, or gives it its name, is the last thing that the process does."""

    def fill(folder: Path) -> None:
        (folder / "a").write_bytes(b"a" * 1000)
        (folder / "b").write_bytes(b"b" * 1000)

    checkpoints.write(tmp_path, 5, fill, keep=2)
    calls, died = 0, True
    while died:
        calls += 1

        def act(die_at: int = calls) -> None:
            count = iter(range(1, 1000))

            def dying(real: Callable[..., object]) -> Callable[..., object]:
                def call(*arguments: object) -> object:
                    if next(count) == die_at:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*arguments)

                return call

            os.fsync, os.replace = dying(os.fsync), dying(os.replace)  # type: ignore[assignment]
            checkpoints.write(tmp_path, 10, fill, keep=2)

        died = in_child(act) == -signal.SIGKILL
        found = checkpoints.newest(tmp_path)
        assert found.step in (5, 10) and not found.damaged
        assert not list((tmp_path / checkpoints.FOLDER).glob("*.part"))
    assert found.step == 10
    assert calls == 7  # it died at each of three files, their folder, the name and the folder above, then no more


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        checkpoints.write(tmp_path, step, lambda folder: folder.joinpath("a").touch(), keep=2)
    assert sorted(each.name for each in (tmp_path / checkpoints.FOLDER).iterdir()) == ["step-000003", "step-000010"]


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_at_a_checkpoint_is_a_warning_and_the_run_goes_on(
    tmp_path: Path, spec: RunSpec, uninterrupted: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Snapshot.write

    def sometimes_full(self: Snapshot, folder: Path) -> None:
        if folder.name == "step-000010.part":
            full_disk()
        written(self, folder)

    monkeypatch.setattr(Snapshot, "write", sometimes_full)
    events = run(tmp_path / "run", spec)
    (warning,) = [event["message"] for event in events if event["type"] == "warning"]
    assert "the disk is full. The run goes on" in warning
    assert [event["step"] for event in events if event["type"] == "checkpoint"] == [5, 15, 20, 24]
    assert outcome(tmp_path / "run") == uninterrupted


def test_a_full_disk_at_the_last_checkpoint_does_not_cost_the_adapter_but_a_pause_fails(
    tmp_path: Path, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = spec.with_changes({"training.max_steps": 3})
    monkeypatch.setattr(Snapshot, "write", full_disk)
    events = run(tmp_path / "run", few)
    assert [event["type"] for event in events if event["type"] in ("warning", "checkpoint", "done")] == [
        "warning",
        "done",
    ]
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
    create(tmp_path / "paused", {"id": "paused", "kind": "train", "title": "A run"})
    ask(tmp_path / "paused", "pause")
    with pytest.raises(TrainError, match="the disk is full"):
        run(tmp_path / "paused", few)


def test_a_full_disk_at_the_adapter_fails_plainly_and_the_run_can_go_on_from_its_last_step(
    tmp_path: Path, spec: RunSpec, uninterrupted: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("transformers.PreTrainedTokenizerBase.save_pretrained", full_disk)
        with pytest.raises(TrainError) as caught:
            run(tmp_path / "run", spec)
    assert caught.value.code == "disk-full"
    events = go_on(tmp_path / "run", spec)
    assert [event["resumed_from"] for event in events if "resumed_from" in event] == [STEPS]
    assert outcome(tmp_path / "run") == uninterrupted


def test_a_loss_that_is_no_number_names_step_and_layer_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, spec: RunSpec
) -> None:
    def act() -> None:
        reported = Report.step

        def step_then_break(self: Report, progress: Any, **figures: Any) -> None:
            reported(self, progress, **figures)
            if progress.step == 7:
                torch.nn.functional.silu = lambda x: x * float("nan")
                torch.nn.SiLU.forward = lambda self, x: x * float("nan")  # type: ignore[method-assign]

        Report.step = step_then_break  # type: ignore[method-assign]
        try:
            run(tmp_path / "run", spec)
        except TrainError as error:
            (tmp_path / "said").write_text(f"{error.code}: {error.message}")

    assert in_child(act) == 0
    said = (tmp_path / "said").read_text()
    assert said == (
        "loss-not-finite: The loss became nan at step 8; the first layer whose output is not a number is "
        "base_model.model.model.layers.0.mlp.act_fn."
    )
    assert checkpoints.newest(tmp_path / "run").step == 5


def test_what_safetensors_says_of_a_full_disk_is_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def save(tensors: object, path: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("trainer.snapshot.save_file", save)
    with pytest.raises(OSError, match="No space left") as caught:
        Snapshot({TRAINABLE: {}}, {}).write(tmp_path)
    assert checkpoints.is_full(caught.value)

"""Settings of the loop: each does what it says, and is refused where it cannot."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import LlamaConfig, LlamaForCausalLM

from trainer import checkpoints
from trainer.acting import decoder_layers, prepare_model, refuse_idle
from trainer.awake import kept_awake
from trainer.data.batches import collate
from trainer.data.masks import IGNORED, Example
from trainer.errors import TrainError
from trainer.loop import train
from trainer.operation import Operation, create, read_events
from trainer.portions import Portions, recompute_activations, split
from trainer.report import Report
from trainer.schedule import learning_rate
from trainer.snapshot import OPTIMIZER, TRAINABLE, Progress
from trainer.spec import Optimizer, RunSpec
from trainer.starter import skills

STARTER = Path(skills.__file__).parent / "model"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def tiny() -> Any:
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    )
    return LlamaForCausalLM(config)


def batch(rows: int = 8) -> Any:
    return collate([Example(list(range(1, 5 + row)), [IGNORED, *range(2, 5 + row)]) for row in range(rows)], pad=0)


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    skills.write(tmp_path, "ticket", training=32, held_out=2)
    small = {
        "model": str(STARTER), "data.train": str(tmp_path / "train.jsonl"), "training.max_steps": 4, "training.threads": 1,
        "lora.dropout": 0.1, "lora.rank": 4, "training.checkpoint_every": 1,
    }  # fmt: skip
    return RunSpec().with_changes(small)


def run(folder: Path, spec: RunSpec) -> list[dict[str, Any]]:
    if not folder.exists():
        create(folder, {"id": folder.name, "kind": "train", "title": "A run"})
    with Operation(folder) as operation:
        train(operation, spec)
    return read_events(folder)


def gradients(portions: Portions, model: Any, progress: Progress) -> dict[str, torch.Tensor]:
    model.zero_grad()
    portions.forward_and_backward([batch(), batch(3)], progress)
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_a_step_in_smaller_portions_has_the_same_gradient() -> None:
    model = tiny()
    portions = Portions(Accelerator(cpu=True), model, "off", 0.0, print)
    whole, parts = (gradients(portions, model, Progress(micro_batch=rows)) for rows in (None, 3))
    assert all(torch.allclose(whole[name], parts[name], atol=1e-6) for name in whole)


def test_parts_of_a_batch_hold_its_rows_and_no_padding_of_longer_ones() -> None:
    whole = batch()
    parts = list(split(whole, 3))
    assert [len(part.labels) for part in parts] == [3, 3, 2]
    assert sum(part.tokens for part in parts) == whole.tokens
    assert sum(part.scored for part in parts) == whole.scored
    assert parts[0].labels.shape[1] == int(parts[0].attention_mask.sum(1).max())


def test_out_of_memory_halves_the_rows_at_once_and_keeps_the_step_whole() -> None:
    model, said = tiny(), list[str]()
    portions = Portions(Accelerator(cpu=True), model, "off", 0.0, said.append)
    expected = gradients(portions, model, Progress())
    hook = model.register_forward_pre_hook(small_memory(2), with_kwargs=True)
    progress = Progress()
    found = gradients(portions, model, progress)
    hook.remove()
    assert progress.micro_batch == 2
    assert len(said) == 2 and "each step still learns from as many rows as before" in said[0]
    assert all(torch.allclose(expected[name], found[name], atol=1e-6) for name in expected)


def test_out_of_memory_at_one_row_computes_activations_twice_and_then_gives_up() -> None:
    model, said = tiny(), list[str]()
    model.register_forward_pre_hook(small_memory(0), with_kwargs=True)
    progress = Progress()
    with pytest.raises(torch.OutOfMemoryError):
        Portions(Accelerator(cpu=True), model, "auto", 0.0, said.append).forward_and_backward([batch()], progress)
    assert (progress.micro_batch, progress.recomputes, model.is_gradient_checkpointing) == (1, True, True)


def small_memory(rows: int) -> Any:
    """A device in which a batch of more rows finds no room."""

    def look(_model: Any, _arguments: Any, named: dict[str, torch.Tensor]) -> None:
        if len(named["input_ids"]) > rows:
            raise torch.OutOfMemoryError("no room")

    return look


def test_recomputed_activations_give_the_same_gradients_bit_for_bit() -> None:
    model = tiny().train()
    portions = Portions(Accelerator(cpu=True), model, "off", 0.0, print)
    kept = gradients(portions, model, Progress())
    recompute_activations(model)
    again = gradients(portions, model, Progress())
    assert all(torch.equal(kept[name], again[name]) for name in kept)


def test_label_smoothing_is_torchs_own() -> None:
    model, one = tiny(), batch()
    found = sum(Portions(Accelerator(cpu=True), model, "off", 0.2, print).losses([one], 3))
    logits = model(input_ids=one.input_ids, attention_mask=one.attention_mask).logits[:, :-1]
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), one.labels[:, 1:].flatten(), label_smoothing=0.2, ignore_index=IGNORED
    )
    assert torch.allclose(torch.as_tensor(found), expected, atol=1e-5)


def test_noise_lies_on_the_embeddings_only_while_training() -> None:
    model, ids = tiny(), batch().input_ids
    plain = model.get_input_embeddings()(ids)
    prepare_model(model, RunSpec().with_changes({"training.neftune": 5.0}))
    noisy = model.train().get_input_embeddings()(ids) - plain
    most = 5.0 / (ids.shape[1] * 32) ** 0.5
    assert 0.9 * most < noisy.abs().max() <= most
    assert torch.equal(model.eval().get_input_embeddings()(ids), plain)


def test_the_layers_that_are_compiled_are_the_repeated_ones() -> None:
    assert [type(layer).__name__ for layer in decoder_layers(tiny())] == ["LlamaDecoderLayer"] * 2


@pytest.mark.parametrize("kind", ["adamw", "adamw-fused", "adamw-8bit"])
def test_each_optimiser_goes_on_bit_for_bit_after_a_pause(tmp_path: Path, spec: RunSpec, kind: str) -> None:
    # A rank at which matrices are large enough that bitsandbytes keeps them in 8 bits.
    spec = spec.with_changes({"optimizer.kind": kind, "lora.rank": 64})
    run(tmp_path / "whole", spec)
    reported = Report.step

    def step_then_pause(self: Report, progress: Any, **figures: Any) -> None:
        reported(self, progress, **figures)
        if progress.step == 2:
            self._terminated = True

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Report, "step", step_then_pause)
        assert run(tmp_path / "again", spec)[-1]["type"] == "paused"
    assert run(tmp_path / "again", spec)[-1]["type"] == "done"
    whole, again = (hashes(tmp_path / name) for name in ("whole", "again"))
    assert whole == again


def hashes(folder: Path) -> list[str]:
    newest = checkpoints.newest(folder).folder
    assert newest
    files = json.loads((newest / checkpoints.MANIFEST).read_text())["files"]
    return [files[name]["sha256"] for name in (TRAINABLE, OPTIMIZER)]


def test_optimisers_agree_about_the_first_steps(tmp_path: Path, spec: RunSpec) -> None:
    adapters = []
    for kind in ("adamw", "adamw-fused", "adamw-8bit"):
        run(tmp_path / kind, spec.with_changes({"optimizer.kind": kind}))
        adapters.append(load_file(tmp_path / kind / "adapter" / "adapter_model.safetensors"))
    plain, fused, eight = adapters
    assert all(torch.allclose(plain[name], fused[name], atol=1e-5) for name in plain)
    assert all(torch.allclose(plain[name], eight[name], atol=5e-3) for name in plain)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"training.cudnn_benchmark": True}, "`training.cudnn_benchmark` does nothing on cpu; it acts on cuda."),
        ({"training.memory_limit": 2.0}, "`training.memory_limit` does nothing on cpu"),
        ({"training.gpu": 1}, "`training.gpu` does nothing on cpu"),
        ({"optimizer.kind": "adamw-8bit-paged"}, "a CPU has no second memory to spill into"),
    ],
)
def test_a_setting_that_cannot_act_is_refused_by_name(
    tmp_path: Path, spec: RunSpec, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(TrainError) as caught:
        run(tmp_path / "run", spec.with_changes({"training.device": "cpu", **change}))
    assert caught.value.code == "device-setting" and said in caught.value.message


def test_the_defaults_act_everywhere() -> None:
    for device in ("cpu", "cuda", "mps"):
        refuse_idle(RunSpec(), device)


def test_a_run_ends_with_its_adapter_after_its_hours(tmp_path: Path, spec: RunSpec) -> None:
    events = run(tmp_path / "run", spec.with_changes({"training.max_hours": 1e-9}))
    assert [event["step"] for event in events if event["type"] == "step"] == [1]
    assert events[-1]["type"] == "done" and (tmp_path / "run" / "adapter").is_dir()


def test_restarts_begin_again_at_the_full_rate_and_drops_multiply() -> None:
    again = Optimizer(learning_rate=1.0, warmup=0.0, schedule="cosine", restarts=1)
    rates = [learning_rate(again, step, 100) for step in range(1, 101)]
    assert rates[0] == rates[50] == 1.0 and rates[49] < 0.01 and rates[:50] == pytest.approx(rates[50:])
    drops = Optimizer(learning_rate=1.0, warmup=0.0, schedule="step", step_drops=2, step_factor=0.5)
    assert [learning_rate(drops, step, 9) for step in range(1, 10)] == [1.0] * 3 + [0.5] * 3 + [0.25] * 3


def best_run(folder: Path, spec: RunSpec, losses: list[float], pause_after: int | None = None) -> list[dict[str, Any]]:
    """A run whose held-out loss is as told, step by step."""
    reported = Report.held_out

    def told(_model: Any, _pad: int, _examples: Any) -> float:
        taken = [event for event in read_events(folder) if event["type"] == "eval" and event["side"] == "training"]
        return losses[len(taken)]

    def then_pause(self: Report, step: int, rows: int, loss: float, *, best: bool) -> None:
        reported(self, step, rows, loss, best=best)
        self._terminated = step == pause_after

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("trainer.held_out.held_out_loss", told)
        patched.setattr(Report, "held_out", then_pause)
        return run(folder, spec)


@pytest.mark.parametrize("pause_after", [None, 2, 3])
def test_early_stopping_ends_the_run_and_keeps_the_best_also_over_a_pause(
    tmp_path: Path, spec: RunSpec, pause_after: int | None
) -> None:
    spec = spec.with_changes(
        {"data.held_out": str(tmp_path / "held_out.jsonl"), "evaluation.generate": False, "training.max_steps": 9,
         "training.evaluate_every": 1, "training.early_stopping": 2, "training.checkpoints_kept": 20}
    )  # fmt: skip
    losses = [3.0, 2.0, 2.5, 2.0, 1.0]
    events = best_run(tmp_path / "run", spec, losses, pause_after)
    if pause_after:
        assert events[-1]["type"] == "paused"
        events = best_run(tmp_path / "run", spec, losses)
    assert events[-1]["type"] == "done"
    assert [event["step"] for event in events if event["type"] == "step"] == [1, 2, 3, 4]
    best = load_file(tmp_path / "run" / checkpoints.FOLDER / "step-000002" / TRAINABLE)
    adapter = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(best[name.replace(".weight", ".default.weight")], adapter[name]) for name in adapter)


@pytest.mark.parametrize("change", [{"training.evaluate_every": 2}, {"training.early_stopping": 2}])
def test_evaluation_without_held_out_rows_is_refused(tmp_path: Path, spec: RunSpec, change: dict[str, Any]) -> None:
    with pytest.raises(TrainError) as caught:
        run(tmp_path / "run", spec.with_changes(change))
    assert caught.value.code == "held-out-missing"


def test_tensorboard_reads_each_step_once_though_one_was_made_twice(
    tmp_path: Path, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.board.AT_MOST_EVERY", 0.0)
    reported = Report.step

    def step_then_pause(self: Report, progress: Any, **figures: Any) -> None:
        reported(self, progress, **figures)
        self._terminated = progress.step == 2

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Report, "step", step_then_pause)
        run(tmp_path / "run", spec)
    shutil.rmtree(tmp_path / "run" / checkpoints.FOLDER / "step-000002")  # as if the pause had been a kill
    events = run(tmp_path / "run", spec)
    curves = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    found = {point.step: point.value for point in curves.Scalars("train/loss")}
    told = {event["step"]: event["loss"] for event in events if event["type"] == "step"}
    assert [point.step for point in curves.Scalars("train/loss")] == [1, 2, 3, 4]
    assert found == pytest.approx(told, abs=1e-4)


def test_what_keeps_the_machine_awake_ends_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "systemd-inhibit"
    fake.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec cat\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with kept_awake() as how:
        assert "systemd-inhibit" in how
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
            time.sleep(0.01)
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with kept_awake() as how:
        assert how.startswith("may sleep")


def test_samples_and_a_trace_are_there_and_change_nothing_of_the_result(tmp_path: Path, spec: RunSpec) -> None:
    run(tmp_path / "plain", spec)
    watched = {
        "training.sample_every": 2,
        "training.sample_prompts": "Repeat: 42\n\nHello!",
        "training.profile_steps": 1,
    }
    events = run(tmp_path / "watched", spec.with_changes({**watched, "evaluation.max_new_tokens": 4}))
    samples = [(event["step"], event["prompt"]) for event in events if event["type"] == "sample"]
    assert samples == [(2, "Repeat: 42"), (2, "Hello!"), (4, "Repeat: 42"), (4, "Hello!")]
    assert hashes(tmp_path / "plain") == hashes(tmp_path / "watched")
    (told,) = [event for event in events if "profile" in event]
    assert any(name.startswith("aten::") for name in told["operations"]) and sum(told["operations"].values()) <= 1
    assert "aten::" in (Path(told["profile"]) / "operations.txt").read_text()
    assert json.loads((Path(told["profile"]) / "trace.json").read_text())["traceEvents"]

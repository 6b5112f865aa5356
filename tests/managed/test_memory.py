"""The prediction of a step's memory held against real steps, and what measuring leaves behind: nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from trainer.data.batches import collate
from trainer.data.masks import Example
from trainer.errors import TrainError
from trainer.loop import train
from trainer.memory import peak, settling
from trainer.memory.choice import Choice
from trainer.memory.estimate import Load, Row, estimate
from trainer.memory.probe import measure
from trainer.memory.shape import read_shape
from trainer.models.adapting import with_lora
from trainer.operation import Operation, create, read_events
from trainer.optimizers import make_optimizer
from trainer.portions import Portions, recompute_activations
from trainer.report import Report
from trainer.snapshot import Progress
from trainer.spec import RunSpec
from trainer.speed.choice import choose_way
from trainer.starter import skills

STARTER = Path(skills.__file__).parent / "model"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)  # it would keep the precision of the first test


LENGTHS = (400, 256, 250, 200, 180, 160, 150)
SHAPES = {
    "llama": {"vocab_size": 24000, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 2},
    "qwen3": {"vocab_size": 8000, "hidden_size": 320, "intermediate_size": 900, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 96},
}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "changes", "recomputes"),
    [
        ("llama", {}, False),
        ("llama", {"training.precision": "bf16"}, False),
        ("llama", {"lora.dropout": 0.1}, False),
        ("llama", {}, True),
        ("qwen3", {}, False),
    ],
)
@pytest.mark.parametrize("end_to_end", [False, True])
def test_a_step_holds_what_was_predicted_within_a_tenth(
    tmp_path: Path, family: str, changes: dict[str, Any], recomputes: bool, end_to_end: bool
) -> None:
    """Padded rows in bf16 under autocast, on a base in fp32; rows end to end on a base in bf16."""
    spec = RunSpec().with_changes(changes)
    half = spec.training.precision == "bf16"
    config = AutoConfig.for_model(family, **SHAPES[family], tie_word_embeddings=False)
    base = AutoModelForCausalLM.from_config(config).requires_grad_(False)
    base.save_pretrained(tmp_path)
    if half and end_to_end:
        base.to(torch.bfloat16)
    weights = settling.bytes_of_weights(base)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if half and not end_to_end else "no")
    model = with_lora(base, spec.lora).model.train()
    if recomputes:
        recompute_activations(model)
    optimizer = make_optimizer(spec.optimizer, [each for each in model.parameters() if each.requires_grad], "cpu")
    rows = [Example([5] * length, [5] * length) for length in LENGTHS]
    training = spec.training.model_copy(update={"end_to_end": "auto" if end_to_end else "off"})
    portions = Portions(accelerator, model, "auto", 0.0, print, choose_way(model, rows, 0, training)[0])
    assert portions.end_to_end == end_to_end
    step = (model, optimizer, portions, collate(rows, 0), Progress(), "cpu")
    assert peak.give_back_at_once()
    measure(*step)  # what a process loads with its first step is not of this step
    before = psutil.Process().memory_info().rss
    precisions = ("bf16" if half else "fp32", "bf16" if half and end_to_end else "fp32")
    load = Load(len(rows), LENGTHS[0], "cpu", *precisions, recomputes=recomputes, process=0)
    if end_to_end:
        load = replace(load, end_to_end=tuple(Row(length - 1, length - 1) for length in LENGTHS))
    parts = estimate(read_shape(tmp_path), spec, load)
    growth = measure(*step) - before
    held = parts.total - parts.process - weights - parts.adapter
    assert held > 50e6
    assert abs(growth - held) < max(0.1 * held, 20e6), (growth / 1e6, {k: v / 1e6 for k, v in parts.by_name().items()})


FAULTS = f"""
import sys; sys.path.insert(0, {str(Path(skills.__file__).parents[2])!r})
import resource, torch
from trainer.memory import peak
assert {{keep}}
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.ones(1 << 20) for _ in range(20)]
    del kept
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_what_a_step_frees_waits_for_the_next_one():
    """Pages that were given back would cost a fault each: 80 MB are 20,000 pages."""
    faults = {}
    for keep in ("True", "peak.keep_freed()"):
        command = [sys.executable, "-I", "-c", FAULTS.format(keep=keep)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        faults[keep] = int(done.stdout.split()[-1])
    assert faults["peak.keep_freed()"] < 5000 < faults["True"]


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    skills.write(tmp_path, "ticket", training=32, held_out=2)
    small = {
        "model": str(STARTER), "data.train": str(tmp_path / "train.jsonl"), "training.max_steps": 3,
        "training.threads": 1, "lora.dropout": 0.1, "lora.rank": 4,
    }  # fmt: skip
    return RunSpec().with_changes(small)


def run(folder: Path, spec: RunSpec) -> list[dict[str, Any]]:
    if not folder.exists():
        record = {"id": folder.name, "kind": "train", "title": "A run", "spec": spec.model_dump(mode="json")}
        create(folder, record)
    with Operation(folder) as operation:
        train(operation, spec)
    return read_events(folder)


def memory(events: list[dict[str, Any]]) -> dict[str, Any]:
    return [event["memory"] for event in events if "memory" in event][-1]


def test_measuring_changes_no_bit_of_the_run(tmp_path: Path, spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    roomy = run(tmp_path / "roomy", spec)
    assert memory(roomy)["measured"] is None
    monkeypatch.setattr(Choice, "roomy", False)
    measured = run(tmp_path / "measured", spec)
    assert memory(measured)["measured"] > 0
    assert memory(measured)["rows"] == memory(roomy)["rows"]
    told = [[(e["loss"], e["grad_norm"]) for e in events if e["type"] == "step"] for events in (roomy, measured)]
    assert told[0] == told[1]
    adapters = [load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("roomy", "measured")]
    assert all(torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[0])


def test_a_step_that_does_not_fit_is_computed_in_portions_and_says_so(
    tmp_path: Path, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "_free", lambda *_: 1_000_000)
    events = run(tmp_path / "run", spec)
    assert (memory(events)["rows"], memory(events)["recomputes"]) == (1, True)
    assert events[-1]["type"] == "done"
    assert any("want of memory" in event.get("message", "") for event in events)


def test_a_run_that_was_killed_for_want_of_memory_keeps_to_its_limit(tmp_path: Path, spec: RunSpec) -> None:
    folder = tmp_path / "run"
    create(folder, {"id": "run", "kind": "train", "title": "A run", "spec": spec.model_dump(mode="json")})
    with Operation(folder) as operation:
        operation.emit("hello", versions={})
        operation.emit("progress", limit={"rows": 3, "recomputes": False})
    events = run(folder, spec)
    assert memory(events)["rows"] == 3
    assert [event["step"] for event in events if event["type"] == "step"] == [1, 2, 3]


def test_a_run_that_goes_on_computes_as_many_rows_at_once_as_before(
    tmp_path: Path, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec.with_changes({"training.checkpoint_every": 1})
    with monkeypatch.context() as tight:
        tight.setattr(settling, "_free", lambda *_: 1_000_000)
        tight.setattr(Report, "ending", lambda self: "paused" if self._tokens else None)
        assert run(tmp_path / "run", spec)[-1]["type"] == "paused"
    events = run(tmp_path / "run", spec)
    assert (memory(events)["rows"], memory(events)["recomputes"]) == (1, True)
    assert [event["step"] for event in events if event["type"] == "step"] == [1, 2, 3]


def test_a_model_whose_sizes_are_not_told_is_trained_all_the_same(
    tmp_path: Path, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untold(_: Path) -> None:
        raise TrainError("model-invalid", "config.json does not say what `hidden_size` is.", "")

    monkeypatch.setattr(settling, "read_shape", untold)
    events = run(tmp_path / "run", spec)
    assert events[-1]["type"] == "done"
    assert [each["chosen"]["memory"] for each in events if "memory" in each.get("chosen", {})] == [
        "not predicted: config.json does not say what `hidden_size` is."
    ]

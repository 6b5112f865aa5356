"""What a run's memory is predicted to be, what is chosen for it, and what is done when the system ends a run."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from trainer import restarting
from trainer.errors import TrainError
from trainer.memory import room
from trainer.memory.choice import SHARE, choose, corrected, portions
from trainer.memory.estimate import Load, estimate
from trainer.memory.kills import Limit, after_kill, limit
from trainer.memory.shape import read_shape
from trainer.operation import Operation, create, read_events
from trainer.restarting import forked, supervise
from trainer.spec import RunSpec
from trainer.starter import skills

STARTER = Path(skills.__file__).parent / "model"
LLAMA = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000,
}  # fmt: skip


def model(folder: Path, **changes: object) -> Path:
    """A model of zeros with the shapes of a small Llama."""
    shapes = {"model.embed_tokens.weight": [1000, 64], "model.norm.weight": [64]}
    for layer in range(2):
        inside = f"model.layers.{layer}."
        shapes |= {f"{inside}self_attn.{name}_proj.weight": [64 if name in "qo" else 32, 64] for name in "qkvo"}
        shapes |= {f"{inside}mlp.{name}_proj.weight": [160, 64] for name in ("gate", "up")}
        shapes |= {f"{inside}mlp.down_proj.weight": [64, 160], f"{inside}input_layernorm.weight": [64]}
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    (folder / "config.json").write_text(json.dumps(LLAMA | changes))
    return folder


def test_each_part_is_what_a_person_would_count_by_hand(tmp_path: Path) -> None:
    parts = estimate(read_shape(model(tmp_path)), RunSpec(), Load(rows=3, longest=10))
    a_layer = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 160
    assert parts.weights == 4 * (1000 * 64 + 64 + 2 * (a_layer + 64))
    trained = 2 * 16 * (2 * (64 + 64) + 2 * (32 + 64) + 3 * (64 + 160))
    assert (parts.adapter, parts.gradients, parts.optimizer) == (4 * trained, 4 * trained, 8 * trained)
    assert parts.logits == 3 * 10 * 1000 * 12
    kept = 4 * 64 + 4 * 64 + 4 * 160 + 7 * 16 + 10  # the widths of what a layer keeps for a token, and its mask
    assert parts.activations == 2 * 30 * 4 * kept
    assert not parts.rough


def test_a_family_that_was_not_counted_is_rough_and_says_so(tmp_path: Path) -> None:
    assert estimate(read_shape(model(tmp_path, model_type="newest")), RunSpec(), Load(1, 10)).rough


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"lora.target_modules": "attention"}, "adapter"),
        ({"optimizer.kind": "adamw-8bit"}, "optimizer"),
        ({"quantise": "4bit"}, "weights"),
        ({"lora.rank": 4}, "activations"),
    ],
)
def test_a_setting_that_needs_less_makes_its_part_smaller(tmp_path: Path, change: dict[str, object], part: str) -> None:
    shape, load = read_shape(model(tmp_path)), Load(8, 100)
    less = estimate(shape, RunSpec().with_changes(change), load).by_name()
    assert less[part] < estimate(shape, RunSpec(), load).by_name()[part]


def test_a_model_whose_sizes_are_not_told_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(TrainError, match="hidden_size") as refused:
        read_shape(folder)
    assert refused.value.code == "model-invalid"


def test_rows_are_parted_evenly() -> None:
    assert list(portions(8)) == [8, 4, 3, 2, 1]
    assert list(portions(1)) == [1]


def test_the_most_rows_that_fit_are_chosen_and_then_recomputation() -> None:
    shape, spec, load = read_shape(STARTER), RunSpec(), Load(8, 2000)

    def needed(rows: int, recomputes: bool = False) -> int:
        at_once = Load(rows, 2000, recomputes=recomputes)
        return int(estimate(shape, spec, at_once).total / SHARE) + 1

    chosen = {free: choose(shape, spec, load, free).load for free in (needed(8), needed(3), needed(1) - 2)}
    assert [(each.rows, each.recomputes) for each in chosen.values()] == [(8, False), (3, False), (3, True)]
    least = choose(shape, spec, load, 0)
    assert (least.load.rows, least.load.recomputes, least.fits) == (1, True, False)


def test_what_the_settings_name_is_not_chosen_otherwise() -> None:
    spec = RunSpec().with_changes({"training.micro_batch_size": 4, "training.gradient_checkpointing": "off"})
    assert choose(read_shape(STARTER), spec, Load(8, 2000), 0).load.rows == 4


def test_a_step_has_room_to_spare_only_beside_what_the_allocator_keeps() -> None:
    shape, spec = read_shape(STARTER), RunSpec()
    parts = estimate(shape, spec, Load(8, 2000))
    enough = int((parts.total + parts.growing) / SHARE) + 1
    assert [choose(shape, spec, Load(8, 2000), free).roomy for free in (enough, enough - 10)] == [True, False]
    recomputed = choose(shape, spec.with_changes({"training.gradient_checkpointing": "on"}), Load(8, 2000), enough)
    assert recomputed.fits and not recomputed.roomy  # though it needs less


def test_a_measured_step_corrects_the_choice_both_ways() -> None:
    shape, spec = read_shape(STARTER), RunSpec()
    whole = estimate(shape, spec, Load(8, 2000)).total
    choice = choose(shape, spec, Load(8, 2000), int(whole / SHARE) + 1)
    assert choice.load.rows == 8
    assert corrected(choice, whole - 1, 8) == 8
    assert corrected(choice, whole + choice.parts.growing // 2, 8) == 4
    tight = choose(shape, spec, Load(8, 2000), int(estimate(shape, spec, Load(4, 2000)).total / SHARE) + 1)
    assert (tight.load.rows, corrected(tight, tight.parts.total - tight.parts.growing * 2 // 3, 8)) == (4, 8)


def told(rows: int, recomputes: bool, phase: str = "training") -> list[dict[str, object]]:
    memory = {"rows": rows, "recomputes": recomputes}
    return [{"type": "progress", "memory": memory}, {"type": "phase", "phase": phase}]


@pytest.mark.parametrize(
    ("events", "left"),
    [
        (told(8, False), Limit(4, False)),
        (told(1, False), Limit(1, True)),
        (told(1, True), None),
        (told(8, False, "evaluating"), None),
        ([{"type": "phase", "phase": "model"}], None),
    ],
)
def test_after_a_kill_half_of_the_rows_are_left(events: list[dict[str, object]], left: Limit | None) -> None:
    assert after_kill(events) == left


def test_the_newest_limit_holds() -> None:
    assert limit([{"type": "hello"}]) == Limit()
    halved = [{"type": "progress", "limit": {"rows": rows, "recomputes": False}} for rows in (4, 2)]
    assert limit(halved) == Limit(2, False)


@pytest.mark.parametrize(("version", "left"), [("v2", 1300), ("v1", 1300), ("unlimited", None)])
def test_a_control_group_bounds_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, left: int | None
) -> None:
    names = {"v1": ("memory.limit_in_bytes", "memory.usage_in_bytes")}.get(version, ("memory.max", "memory.current"))
    (tmp_path / names[0]).write_text("max" if left is None else "2000")
    (tmp_path / names[1]).write_text("1000")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 300\n")
    before = room.free_memory()
    monkeypatch.setattr(room, "groups", lambda: [tmp_path])
    now = room.free_memory()
    assert before and now
    assert now == left if left else now > before // 2


class Machine:
    """A count of kills for want of memory that a test can raise, and a run that can be killed by it or by a person."""

    def __init__(self, folder: Path) -> None:
        self.count, self.folder = folder / "kills", folder / "run"
        self.count.write_text("3")
        create(self.folder, {"id": "run", "kind": "train", "title": "A run"})

    def kills(self) -> int:
        return int(self.count.read_text())

    def train(self, end: Callable[[int], int]) -> int:
        """Report a run of eight rows, or what the limit leaves, then end as the test says."""
        with Operation(self.folder) as operation:
            operation.emit("hello")
            rows = limit(read_events(self.folder)).rows or 8
            operation.emit("progress", memory={"rows": rows, "recomputes": False})
            operation.emit("phase", phase="training")
            return end(rows)

    def killed(self, *, for_memory: bool) -> int:
        if for_memory:
            self.count.write_text(str(self.kills() + 1))
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    def supervised(self, end: Callable[[int], int], *, waited: bool = False) -> int:
        """The exit status of a supervisor, which is a process of its own."""
        return os.waitstatus_to_exitcode(os.waitpid(self.start(end, waited=waited), 0)[1])

    def start(self, end: Callable[[int], int], *, waited: bool = False) -> int:
        """The id of a supervisor's process, which may have had a child before it had a run."""
        child = os.fork()
        if child == 0:
            train = partial(self.train, end)
            try:
                os._exit(supervise(self.folder, train, partial(forked, train) if waited else None))
            except SystemExit as ended:  # the run itself, which is a fork of this process
                os._exit(ended.code if isinstance(ended.code, int) else 1)
        return child


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setattr(restarting, "out_of_memory_kills", machine.kills)
    return machine


@pytest.mark.parametrize("waited", [False, True])
def test_a_run_killed_for_want_of_memory_goes_on_with_half_the_rows(machine: Machine, waited: bool) -> None:
    assert machine.supervised(lambda rows: 0 if rows <= 2 else machine.killed(for_memory=True), waited=waited) == 0
    events = read_events(machine.folder)
    assert [event["memory"]["rows"] for event in events if "memory" in event] == [8, 4, 2]
    warnings = [event["message"] for event in events if event["type"] == "warning"]
    assert ["at most 4 rows" in warnings[0], "at most 2 rows" in warnings[1]] == [True, True]


def test_a_run_that_a_person_killed_stays_ended_and_its_parent_ends_like_it(machine: Machine) -> None:
    assert machine.supervised(lambda _: machine.killed(for_memory=False)) == -signal.SIGKILL
    assert [event["type"] for event in read_events(machine.folder)] == ["hello", "progress", "phase"]


def test_an_older_kill_of_another_program_is_not_taken_for_the_runs_own(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarting, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(restarting, "ENDING_SECONDS", 0.2)

    def end(_: int) -> int:
        machine.count.write_text("4")
        time.sleep(3)
        return machine.killed(for_memory=False)

    assert machine.supervised(end) == -signal.SIGKILL
    assert not any("limit" in event for event in read_events(machine.folder))


def test_a_run_that_memory_fails_in_every_size_fails_in_words(machine: Machine) -> None:
    assert machine.supervised(lambda _: machine.killed(for_memory=True)) == -signal.SIGKILL
    last = read_events(machine.folder)[-1]
    assert (last["type"], last["code"]) == ("failed", "out-of-memory")


def test_the_exit_status_of_a_run_is_that_of_its_parent(machine: Machine) -> None:
    assert machine.supervised(lambda _: 1) == 1


def test_no_run_outlives_its_parent(machine: Machine) -> None:
    def end(_: int) -> int:
        (machine.folder / "child").write_text(str(os.getpid()))
        time.sleep(60)
        return 0

    parent = machine.start(end)
    note = machine.folder / "child"
    while not (note.exists() and note.read_text()):
        time.sleep(0.02)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{note.read_text()}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{note.read_text()}").exists()

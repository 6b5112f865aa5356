"""What the model learns from, and that what is saved is what was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from trainer.chat import Chat
from trainer.data.batches import collate, epoch_order, training_batches
from trainer.data.masks import IGNORED, Example
from trainer.data.masks import encode as encode_samples
from trainer.data.samples import Place, Sample
from trainer.errors import TrainError
from trainer.evaluation.judging import answer, held_out_loss
from trainer.loop import train
from trainer.models.adapting import with_lora
from trainer.models.loading import load_base
from trainer.models.tokenizer import load_tokenizer
from trainer.operation import Operation, create, read_events
from trainer.spec import Data, Lora, RunSpec
from trainer.starter import skills
from trainer.vision.sight import Prompt

STARTER = Path(skills.__file__).parent / "model"
TALK = [
    {"role": "user", "content": "Hello!"},
    {"role": "assistant", "content": "Good day"},
    {"role": "user", "content": "Repeat: 42"},
    {"role": "assistant", "content": "42"},
]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def tokenizer() -> Any:
    return load_tokenizer(STARTER)


def encode(tokenizer: Any, conversations: list[Any], max_length: int) -> list[Example]:
    samples = [Sample("conversation", Place("rows", i + 1), tuple(turns)) for i, turns in enumerate(conversations)]
    return encode_samples(tokenizer, samples, Data(max_length=max_length))


@pytest.fixture
def rows() -> list[Any]:
    return [row["messages"] for row in skills.rows("ticket", "train", 24, 0)]


def spec(folder: Path, **changes: Any) -> RunSpec:
    """Three small steps on the ticket skill."""
    skills.write(folder, "ticket", training=48, held_out=6)
    small = {
        "model": str(STARTER),
        "data.train": str(folder / "train.jsonl"),
        "training.max_steps": 3,
        "training.threads": 1,
        "lora.dropout": 0.1,
        "optimizer.learning_rate": 5e-3,
    }
    return RunSpec().with_changes(small | changes)


def run(folder: Path, wanted: RunSpec, asked: str | None = None) -> list[dict[str, Any]]:
    """One run in this process; all its events."""
    create(folder, {"id": folder.name, "kind": "train", "title": "A run"})
    if asked:
        (folder / "requests" / asked).touch()
    with Operation(folder) as operation:
        train(operation, wanted)
    return read_events(folder)


def test_only_the_assistants_tokens_are_scored(tokenizer: Any) -> None:
    (example,) = encode(tokenizer, [TALK], 512)
    scored = tokenizer.decode([t for t, y in zip(example.ids, example.labels, strict=True) if y != IGNORED])
    assert scored == "Good day<|end|>42<|end|>"


def test_a_template_without_markers_gives_the_same_mask(tokenizer: Any) -> None:
    marked = encode(tokenizer, [TALK], 512)
    tokenizer.chat_template = tokenizer.chat_template.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    assert encode(tokenizer, [TALK], 512) == marked


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m.role if loop.last else '' }}{{ m.content }}{% endfor %}"
    with pytest.raises(TrainError) as caught:
        encode(tokenizer, [TALK], 512)
    assert caught.value.code == "template-rewrites"


def test_rows_cut_before_their_answer_are_left_out_and_all_of_them_is_an_error(tokenizer: Any) -> None:
    long = [{"role": "user", "content": "word " * 50}, {"role": "assistant", "content": "yes"}]
    assert len(encode(tokenizer, [long, TALK], 40)) == 1
    with pytest.raises(TrainError) as caught:
        encode(tokenizer, [long], 40)
    assert caught.value.code == "nothing-scored"


@pytest.mark.parametrize("by_length", [False, True])
def test_every_epoch_holds_every_row_once_in_an_order_of_its_own(by_length: bool) -> None:
    lengths = [5 + (7 * i) % 31 for i in range(101)]
    epochs = [epoch_order(lengths, 8, seed=3, epoch=epoch, by_length=by_length) for epoch in (0, 1)]
    for batches in epochs:
        assert sorted(row for batch in batches for row in batch) == list(range(101))
    assert epochs[0] != epochs[1]
    assert epochs[0] == epoch_order(lengths, 8, seed=3, epoch=0, by_length=by_length)
    padded = sum(max(lengths[row] for row in rows) * len(rows) for rows in epochs[0])
    assert (padded < 1.2 * sum(lengths)) == by_length


def test_padding_is_never_counted_and_never_scored() -> None:
    batch = collate([Example([1, 2, 3], [IGNORED, 2, 3]), Example([4, 5], [4, 5])], pad=0)
    assert batch.tokens == 5
    assert batch.scored == 3  # the first token of a row has nothing before it
    assert batch.labels.tolist() == [[IGNORED, 2, 3], [4, 5, IGNORED]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]


def test_accumulated_parts_weigh_as_much_as_their_scored_tokens(tokenizer: Any, rows: list[Any]) -> None:
    model = load_base(STARTER, torch.float32)
    examples = encode(tokenizer, rows, 512)[:6]

    def loss(part: list[Example]) -> tuple[float, int]:
        batch = collate(part, tokenizer.pad_token_id)
        found = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
        return float(found), batch.scored

    parts = [loss(examples[:1]), loss(examples[1:3]), loss(examples[3:])]
    scored = sum(count for _, count in parts)
    together = sum(value * count / scored for value, count in parts)
    assert together == pytest.approx(loss(examples)[0], rel=1e-5)
    with torch.inference_mode():
        assert held_out_loss(model, tokenizer.pad_token_id, examples) == pytest.approx(together, rel=1e-5)


def test_the_adapter_starts_as_no_change_and_reaches_every_linear_layer(tokenizer: Any) -> None:
    ids = torch.tensor([tokenizer("Repeat: 42")["input_ids"]])
    base = load_base(STARTER, torch.float32).eval()
    before = base(input_ids=ids).logits
    model = with_lora(base, Lora(rank=4)).model.eval()
    assert torch.equal(model(input_ids=ids).logits, before)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 4 * 7 * 2  # layers, linear layers in each, two matrices
    assert all("lora_" in name for name in trained)


def test_targets_that_match_nothing_are_refused() -> None:
    for target in ("nothing_like_this", "([broken"):
        with pytest.raises(TrainError) as caught:
            with_lora(load_base(STARTER, torch.float32), Lora(target_modules=target))
        assert caught.value.code == "lora-targets"


def test_the_same_seed_gives_the_same_adapter_bit_for_bit_and_another_seed_another(tmp_path: Path) -> None:
    adapters = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(tmp_path / name, spec(tmp_path, **{"training.seed": seed}))
        adapters.append(load_file(tmp_path / name / "adapter" / "adapter_model.safetensors"))
    first, again, other = adapters
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_the_saved_adapter_answers_like_the_model_in_memory(tmp_path: Path, tokenizer: Any, rows: list[Any]) -> None:
    model = with_lora(load_base(STARTER, torch.float32), Lora(rank=8)).model.eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    from trainer.export.adapter import save_adapter

    create(tmp_path, {"id": "r", "kind": "train", "title": "A run"})
    adapter = save_adapter(model, tokenizer, tmp_path, RunSpec(model=str(STARTER)))
    again = PeftModel.from_pretrained(load_base(STARTER, torch.float32), adapter).eval()
    batch = collate(encode(load_tokenizer(adapter), rows[:4], 512), tokenizer.pad_token_id)
    with torch.inference_mode():
        logits = [m(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits for m in (model, again)]
    assert torch.equal(*logits)


def test_streamed_chat_says_what_batched_evaluation_says(tmp_path: Path, tokenizer: Any, rows: list[Any]) -> None:
    run(tmp_path / "run", spec(tmp_path))
    adapter = tmp_path / "run" / "adapter"
    model = PeftModel.from_pretrained(load_base(STARTER, torch.float32), adapter).eval()
    asked = [row[:-1] for row in rows[:4]]
    prompts = [
        Prompt(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)) for turns in asked
    ]
    batched = answer(model, tokenizer, prompts, 24)
    chat = Chat()
    for turns, expected in zip(asked, batched, strict=True):
        request = {
            "model": str(STARTER),
            "adapter": str(adapter),
            "base_precision": "auto",
            "quantise": "none",
            "messages": turns,
            "max_new_tokens": 24,
            "temperature": 0,
        }
        lines = list(chat.answer(request, lambda: False))
        assert "".join(line["text"] for line in lines if line["side"] == "tuned") == expected


def test_a_run_reports_every_step_and_both_scores(tmp_path: Path) -> None:
    events = run(tmp_path / "run", spec(tmp_path, **{"data.held_out": str(tmp_path / "held_out.jsonl")}))
    steps = [event for event in events if event["type"] == "step"]
    assert [event["step"] for event in steps] == [1, 2, 3]
    assert all(event["tokens"] > event["scored"] > 0 for event in steps)
    assert [event["side"] for event in events if event["type"] == "eval"] == ["base", "tuned", "comparison"]
    last = events[-1]
    assert last["type"] == "done" and last["real_tokens"] == sum(event["tokens"] for event in steps)


def test_a_stop_keeps_what_was_learned(tmp_path: Path) -> None:
    last = run(tmp_path / "run", spec(tmp_path), asked="stop")[-1]
    assert last["type"] == "stopped"
    assert (Path(last["adapter"]) / "adapter_model.safetensors").is_file()


def test_a_loss_that_is_no_number_ends_the_run_by_name(tmp_path: Path) -> None:
    broken = tmp_path / "model"
    broken.mkdir()
    for file in STARTER.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = load_file(broken / "model.safetensors")
    key = next(key for key in weights if key.endswith("mlp.up_proj.weight"))
    weights[key] = torch.full_like(weights[key], float("nan"))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainError) as caught:
        run(tmp_path / "run", spec(tmp_path, model=str(broken)))
    assert caught.value.code == "loss-not-finite"


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("config.json", None, "model-missing"),
        ("config.json", "{", "model-invalid"),
        ("config.json", json.dumps({"auto_map": {"AutoModel": "x.Y"}}), "model-needs-code"),
        ("config.json", json.dumps({"model_type": "unheard_of"}), "model-invalid"),
        ("model.safetensors", None, "model-weights"),
        ("model.safetensors", "not weights", "model-invalid"),
    ],
)
def test_a_damaged_model_folder_is_named(tmp_path: Path, file: str, content: str | None, code: str) -> None:
    for part in STARTER.iterdir():
        (tmp_path / part.name).write_bytes(part.read_bytes())
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_text(content)
    with pytest.raises(TrainError) as caught:
        load_base(tmp_path, torch.float32)
    assert caught.value.code == code


def test_batches_go_on_for_ever(tokenizer: Any, rows: list[Any]) -> None:
    examples = encode(tokenizer, rows, 512)
    batches = training_batches(examples, tokenizer.pad_token_id, 10, seed=0)
    assert [next(batches).input_ids.shape[0] for _ in range(6)].count(10) >= 4

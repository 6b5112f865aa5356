"""What a run leaves for others: read back, described, and trained again bit for bit."""

from __future__ import annotations

import contextlib
import io
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from trainer.data.samples import Place, Sample
from trainer.export import reload_check
from trainer.export.agreement import Said, compare, prompts_of, said_by
from trainer.export.card import card, changed_settings
from trainer.export.origin import Origin, home_relative, model_fingerprint
from trainer.export.reload_check import check_reload
from trainer.loop import train
from trainer.models.loading import load_base
from trainer.models.tokenizer import load_tokenizer
from trainer.operation import Operation, create, read_events, read_record
from trainer.spec import RunSpec
from trainer.starter import skills
from trainer.vision.sight import Prompt

STARTER = Path(skills.__file__).parent / "model"
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def run(folder: Path, spec: RunSpec, **record: Any) -> dict[str, Any]:
    """One run in this process; its last event."""
    told = {"id": folder.name, "kind": "train", "title": "Tickets", "spec": spec.model_dump(mode="json"), **record}
    create(folder, told)
    with Operation(folder) as operation:
        train(operation, spec)
    return read_events(folder)[-1]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    folder = tmp_path_factory.mktemp("data")
    skills.write(folder, "ticket", training=32, held_out=8)
    return RunSpec().with_changes(
        {
            "model": str(STARTER),
            "data.train": str(folder / "train.jsonl"),
            "data.held_out": str(folder / "held_out.jsonl"),
            "training.max_steps": 4,
            "training.precision": "fp32",
            "lora.dropout": 0.1,
            "optimizer.learning_rate": 5e-3,
            "evaluation.max_new_tokens": 8,
        }
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, spec: RunSpec) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    last = run(folder, spec, data_fingerprint="d4ta", generation="g1", lock_sha256="10c4", rows=32)
    assert last["type"] == "done" and last["checked"] is True
    return folder


def test_a_saved_adapter_is_read_back_and_says_the_same_to_the_bit(done: Path) -> None:
    told = next(event for event in read_events(done) if "checked" in event and event["type"] == "progress")
    assert told["checked"] and told["base"] == "a base loaded from disk again"
    assert "differ by at most 0 of the largest" in told["text"] and told["text"].startswith("4 of 4 answers")


def test_the_folder_has_what_others_expect(done: Path) -> None:
    names = {file.name for file in (done / "adapter").iterdir()}
    assert names >= {
        "adapter_config.json",
        WEIGHTS,
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "README.md",
        "reproduce.yaml",
    }
    assert not [name for name in names if name.endswith(".part")]


def test_the_specification_makes_the_same_adapter_bit_for_bit(tmp_path: Path, done: Path) -> None:
    text = (done / "adapter" / "reproduce.yaml").read_text(encoding="utf-8")
    assert "sha256 d4ta" in text and "lock sha256 10c4" in text and model_fingerprint(STARTER) in text
    again = RunSpec.model_validate(yaml.safe_load(text))
    assert (again.training.device, again.training.precision, again.training.threads) == ("cpu", "fp32", 1)
    run(tmp_path / "again", again)
    assert (tmp_path / "again/adapter" / WEIGHTS).read_bytes() == (done / "adapter" / WEIGHTS).read_bytes()


def test_the_card_says_what_happened_and_its_snippet_runs(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (done / "adapter" / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---")[1])
    assert (head["base_model"], head["library_name"], head["pipeline_tag"]) == ("model", "peft", "text-generation")
    for expected in (
        "| loss |",
        "`lora.dropout` | `0.1`",
        "SHA-256 `d4ta`",
        "cpu, fp32",
        "torch 2.",
        "Read back from disk",
    ):
        assert expected in text
    assert "`training.seed`" not in text
    monkeypatch.chdir(done / "adapter")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(text.split("```python\n")[1].split("```")[0], {})
    assert printed.getvalue().strip()


def test_a_card_tells_nobodys_name_where_another_way_works(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: done.parent)
    assert home_relative(str(done.parent / "models" / "small")) == "~/models/small"
    assert home_relative("/elsewhere/small") == "/elsewhere/small"
    assert "os.path.expanduser" in card(with_model(origin_of(done), str(done.parent / "models" / "small")))


def test_a_base_from_the_hubs_cache_is_named_as_on_the_hub(done: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--some--thing-1b" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: [en, de]\n---\n# Thing\n")
    text = card(with_model(origin_of(done), str(snapshot)))
    head = yaml.safe_load(text.split("---")[1])
    assert (head["base_model"], head["license"], head["language"]) == ("some/thing-1b", "apache-2.0", ["en", "de"])
    assert 'from_pretrained("some/thing-1b")' in text


@pytest.mark.parametrize("damage", ["", "---\n", "---\n: [\n---\n", "---\n- a\n---\n"])
def test_a_base_whose_card_cannot_be_read_gives_no_licence(done: Path, tmp_path: Path, damage: str) -> None:
    (tmp_path / "README.md").write_text(damage)
    assert "license" not in card(with_model(origin_of(done), str(tmp_path)))


def origin_of(run: Path) -> Origin:
    return Origin.of(run, RunSpec.model_validate(read_record(run)["spec"]))


def test_names_that_another_version_gave_are_passed_over(tmp_path: Path) -> None:
    named = {"model": "starter", "lora.start_from": None, "lora.unheard_of": 1, "data.train": "ticket"}
    spec = RunSpec().with_changes({"model": "/m", "data.train": "/t"})
    create(tmp_path, {"id": "r", "kind": "train", "title": "T", "named": named})
    origin = Origin.of(tmp_path, spec)
    assert (origin.named.model, origin.named.data.train, origin.spec.model) == ("starter", "ticket", "/m")


def with_model(origin: Origin, model: str) -> Origin:
    from dataclasses import replace

    changed = origin.spec.with_changes({"model": model})
    return replace(origin, spec=changed, named=changed)


def test_only_settings_that_differ_are_told() -> None:
    spec = RunSpec().with_changes({"lora.rank": 4, "name": "x"})
    assert changed_settings(spec) == [("lora.rank", 4), ("name", "x")]


def test_other_weights_have_another_fingerprint(tmp_path: Path) -> None:
    for file in STARTER.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert model_fingerprint(tmp_path) == model_fingerprint(STARTER)
    weights = {name: tensor * 1.001 for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert model_fingerprint(tmp_path) != model_fingerprint(STARTER)


@pytest.fixture
def adapted(done: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(load_base(STARTER, torch.float32), done / "adapter", is_trainable=True)


def checked(model: Any, adapter: Path) -> Any:
    rows = [
        Sample(
            "conversation", Place("r", 1), ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "x"})
        )
    ]
    base = partial(load_base, STARTER, torch.float32)
    tokenizer = load_tokenizer(STARTER)
    return check_reload(model, tokenizer, adapter, rows, base, contextlib.nullcontext(), "fp32")


@pytest.mark.parametrize("room", [True, False])
def test_another_adapter_on_disk_is_noticed(
    done: Path, tmp_path: Path, adapted: Any, room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload_check, "_room_for_another", lambda model: room)
    before = {name: parameter.requires_grad for name, parameter in adapted.named_parameters()}
    good, where = checked(adapted, done / "adapter")
    assert good.good and good.difference == 0 and ("in memory" in where) is not room
    for file in (done / "adapter").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / WEIGHTS)
    name = next(name for name in weights if "lora_B" in name)
    weights[name] = weights[name] + 0.01
    save_file(weights, tmp_path / WEIGHTS, metadata={"format": "pt"})
    bad, _ = checked(adapted, tmp_path)
    assert not bad.good and bad.difference > 1e-3
    assert {name: parameter.requires_grad for name, parameter in adapted.named_parameters()} == before
    assert list(adapted.peft_config) == ["default"]


def test_another_tokenizer_on_disk_is_noticed(done: Path, tmp_path: Path, adapted: Any) -> None:
    for file in (done / "adapter").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    template = tmp_path / "chat_template.jinja"
    template.write_text("Beginning: " + template.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ValueError, match="other tokens"):
        checked(adapted, tmp_path)


def test_a_run_whose_adapter_differs_ends_with_a_warning_and_keeps_it(
    tmp_path: Path, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = reload_check.said_by

    def other(model: Any, tokenizer: Any, prompts: Any) -> Said:
        found = saved(model, tokenizer, prompts)
        others.append(0)
        return Said(found.tokens, found.logits + (len(others) == 2))

    others: list[int] = []
    monkeypatch.setattr(reload_check, "said_by", other)
    last = run(tmp_path / "run", spec)
    assert last["type"] == "done" and last["checked"] is False and (Path(last["adapter"]) / WEIGHTS).is_file()
    warnings = [event["message"] for event in read_events(tmp_path / "run") if event["type"] == "warning"]
    assert any("does not answer as the model in memory did" in text for text in warnings)


def test_answers_are_compared_until_they_part() -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, :, 1] = 10.0
    tokens = torch.tensor([[1, 1, 1]])
    near = logits.clone()
    near[0, 1, 2] = 10.2  # rounding decides otherwise here, and what follows has another past
    near[0, 2, 3] = 99.0
    found = compare(Said(tokens, logits), Said(torch.tensor([[1, 2, 3]]), near), "bf16")
    assert (found.same, found.of) == (0, 1)
    assert found.difference == pytest.approx(1.02) and not found.good  # the logit of token 2 came out of nothing
    forbidden = logits.clone()
    forbidden[0, 0, 0] = -torch.inf
    assert compare(Said(tokens, logits), Said(tokens, forbidden), "bf16").difference == torch.inf
    assert compare(Said(tokens, forbidden), Said(tokens, forbidden), "fp32").good
    broken = torch.full_like(logits, torch.nan)
    assert not compare(Said(tokens, broken), Said(tokens, broken), "fp32").good


def test_rows_that_cannot_be_asked_give_way_to_text_and_a_greeting() -> None:
    tokenizer = load_tokenizer(STARTER)
    text = Sample("text", Place("t", 1), text="word " * 100)
    assert prompts_of(tokenizer, [text]) == [Prompt(("word " * 100)[:200])]
    (greeting,) = prompts_of(tokenizer, [])
    assert "Hello!" in greeting.text
    model = load_base(STARTER, torch.float32).eval()
    said = said_by(model, tokenizer, [greeting, Prompt("Hello")])
    assert said.tokens.shape == said.logits.shape[:2] and os.environ.get("CUDA_VISIBLE_DEVICES") is None

"""A run of a model that sees, from rows with pictures to a proved adapter, in every family."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from seeing import FAMILIES, STARTER, make
from test_resume import disturb_random_states
from test_settings import run

from trainer.chat import Chat
from trainer.data.masks import IGNORED, encode
from trainer.data.reading import read_samples
from trainer.data.templates import Renderer
from trainer.errors import TrainError
from trainer.evaluation.again import judge_again
from trainer.evaluation.judging import answer, question
from trainer.export.merged import export_merged
from trainer.models.loading import load_base
from trainer.models.parts import SIGHT
from trainer.models.tokenizer import load_tokenizer
from trainer.operation import Operation, ask, create, read_events, resume
from trainer.report import Report
from trainer.spec import Data, RunSpec
from trainer.vision.sight import Sight

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def rows(folder: Path, count: int = 12) -> Path:
    """Squares and their colours, a row of two pictures, and one of text alone."""
    folder.mkdir()
    told: list[dict[str, Any]] = [{"prompt": "Hello", "completion": "Hi"}]
    for number in range(count):
        name, colour = list(COLOURS.items())[number % 3]
        Image.new("RGB", (30 + number, 40), colour).save(folder / f"{number}.png")
        told.append({"prompt": "colour?", "completion": name, "image": f"{number}.png"})
    told.append({"prompt": "Is <image> as <image>?", "completion": "no", "images": ["0.png", "1.png"]})
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told), encoding="utf-8")
    return folder / "train.jsonl"


def spec(model: Path, data: Path, **changes: Any) -> RunSpec:
    small = {
        "model": str(model), "data.train": str(data), "data.held_out_share": 0.3, "training.max_steps": 3,
        "training.batch_size": 4, "training.threads": 1, "lora.rank": 4, "evaluation.max_new_tokens": 4,
    }  # fmt: skip
    return RunSpec().with_changes(small | changes)


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_are_learned_judged_and_read_back(tmp_path: Path, family: str) -> None:
    model = make(tmp_path / family, family)
    events = run(tmp_path / "run", spec(model, rows(tmp_path / "data")))
    assert [event["type"] for event in events].count("step") == 3
    assert events[-1]["type"] == "done"
    proofs = [event for event in events if "checked" in event]
    assert proofs and all(proof["checked"] for proof in proofs), proofs
    assert (tmp_path / "run" / "adapter" / "preprocessor_config.json").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_sees_is_trained_where_it_is_named(tmp_path: Path, family: str) -> None:
    """Every matrix that the run says it trains has moved, in the tower and its projector too."""
    named = {"lora.target_modules": "all-linear, projector, vision"}
    events = run(tmp_path / "run", spec(make(tmp_path / family, family), rows(tmp_path / "data"), **named))
    assert events[-1]["type"] == "done"
    told = next(event["coverage"] for event in events if "coverage" in event)
    assert {row["part"] for row in told if row["trained"]} >= set(SIGHT)
    tensors = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    still = [name for name, tensor in tensors.items() if "lora_B" in name and not tensor.any()]
    assert not still
    assert len([name for name in tensors if "lora_B" in name]) == sum(row["trained"] for row in told)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "gemma3"])
def test_a_paused_run_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    more = {"training.max_steps": 6, "lora.dropout": 0.2, "lora.target_modules": "all-linear, vision"}
    told = spec(make(tmp_path / family, family), rows(tmp_path / "data"), **more)
    whole, paused = tmp_path / "whole", tmp_path / "paused"
    run(whole, told)
    reported = Report.step

    def step_then_pause(self: Report, progress: Any, **figures: Any) -> None:
        reported(self, progress, **figures)
        if progress.step == 3:
            ask(paused, "pause")

    with monkeypatch.context() as patched:
        patched.setattr(Report, "step", step_then_pause)
        assert run(paused, told)[-1]["type"] == "paused"
    disturb_random_states()
    resume(paused)
    assert run(paused, told)[-1]["type"] == "done"
    one, other = (folder / "adapter" / "adapter_model.safetensors" for folder in (whole, paused))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_model_takes_pictures_and_is_judged_again(tmp_path: Path, family: str) -> None:
    """Tower, projector and language model are merged; another evaluation opens the pictures as the run did."""
    changes = {"lora.target_modules": "all-linear, projector, vision", "optimizer.learning_rate": 2e-2}
    told = spec(make(tmp_path / family, family), rows(tmp_path / "data"), **changes)
    run(tmp_path / "run", told)
    about = {"spec": told.model_dump(mode="json"), "adapter": str(tmp_path / "run" / "adapter")}
    last = after(
        tmp_path / "export",
        export_merged,
        {**about, "run_folder": str(tmp_path / "run"), "output": str(tmp_path / "merged"), "precision": None},
    )
    assert (last["type"], last["output"]) == ("done", str(tmp_path / "merged"))
    assert Sight.of(tmp_path / "merged", load_tokenizer(tmp_path / "merged"))
    assert after(tmp_path / "evaluate", judge_again, {**about, "data": None, "rows": None})["type"] == "done"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_chat_with_a_picture_says_what_evaluation_says(tmp_path: Path, family: str) -> None:
    folder = make(tmp_path / family, family)
    data = rows(tmp_path / "data", 3)
    run(tmp_path / "run", spec(folder, data, **{"optimizer.learning_rate": 2e-2}))
    adapter = tmp_path / "run" / "adapter"
    asked = {"model": str(folder), "adapter": str(adapter), "max_new_tokens": 8, "temperature": 0}
    url = "data:image/png;base64," + base64.b64encode((data.parent / "1.png").read_bytes()).decode()
    message = {"role": "user", "content": "colour?", "pictures": [url]}
    lines = list(Chat().answer({**asked, "messages": [message]}, lambda: False))

    tokenizer = load_tokenizer(adapter)
    sight = Sight.of(folder, tokenizer)
    sample = read_samples(Data(train=str(data))).train[2]
    model = PeftModel.from_pretrained(load_base(folder, torch.float32), adapter).eval()
    (said,) = answer(model, tokenizer, [question(Renderer(tokenizer), sample, sight)], 8)
    assert "".join(line["text"] for line in lines if line["side"] == "tuned") == said
    assert {line["side"] for line in lines} == {"base", "tuned"}


@pytest.mark.parametrize(
    ("url", "code"), [("data:image/png;base64,AAAA", "picture-unreadable"), ("x.png", "pictures-unseen")]
)
def test_a_chat_refuses_what_is_no_picture_and_pictures_that_nobody_sees(tmp_path: Path, url: str, code: str) -> None:
    chat, folder = Chat(), make(tmp_path / "llava", "llava")
    chat._tokenizer = load_tokenizer(folder)
    chat._sight = Sight.of(folder, chat._tokenizer) if code == "picture-unreadable" else None
    chat._loaded = (str(folder), "")  # no weight is needed to refuse
    asked = {"model": str(folder), "adapter": "", "max_new_tokens": 1, "temperature": 0}
    with pytest.raises(TrainError) as refused:
        list(chat.answer({**asked, "messages": [{"role": "user", "content": "?", "pictures": [url]}]}, lambda: False))
    assert refused.value.code == code


def after(folder: Path, work: Callable[[Operation], None], about: dict[str, Any]) -> dict[str, Any]:
    """The last event of what is done with a run's adapter."""
    create(folder, {"id": folder.name, "kind": folder.name, "title": folder.name, **about})
    with Operation(folder) as operation:
        work(operation)
    return read_events(folder)[-1]


def test_a_model_that_reads_alone_refuses_pictures_before_it_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="reads text alone") as refused:
        run(tmp_path / "run", spec(STARTER, rows(tmp_path / "data")))
    assert refused.value.code == "pictures-unseen"


@pytest.mark.parametrize("family", FAMILIES)
def test_only_answers_are_learned_and_each_picture_has_its_room(tmp_path: Path, family: str) -> None:
    """What precedes an answer is what the model will be asked with; no part of a picture is ever scored."""
    folder = make(tmp_path / family, family)
    tokenizer = load_tokenizer(folder)
    sight = Sight.of(folder, tokenizer)
    assert sight
    samples = read_samples(Data(train=str(rows(tmp_path / "data", 3)))).train
    examples = encode(tokenizer, samples, Data(), sight)
    assert len(examples) == len(samples)
    renderer = Renderer(tokenizer)
    for sample, example in zip(samples, examples, strict=True):
        learned = [label for label in example.labels if label != IGNORED]
        assert tokenizer.decode(learned).startswith(sample.answer)
        asked = question(renderer, sample, sight)
        before = tokenizer(asked.text, add_special_tokens=False)["input_ids"]
        assert example.ids[: len(before)] == before
        assert all(label == IGNORED for label in example.labels[: len(before)])
        shown = sight.processor.types(torch.tensor(example.ids)).bool()
        assert bool(shown.any()) == bool(sample.pictures)
        assert all(label == IGNORED for label, part in zip(example.labels, shown, strict=True) if part)
        assert (example.seen.pictures if example.seen else ()) == sample.pictures


def test_a_row_whose_pictures_would_be_cut_is_left_out(tmp_path: Path) -> None:
    folder = make(tmp_path / "llava", "llava")
    tokenizer = load_tokenizer(folder)
    samples = read_samples(Data(train=str(rows(tmp_path / "data", 3)))).train
    sight = Sight.of(folder, tokenizer)
    *others, longest = encode(tokenizer, samples, Data(), sight)
    most = max(len(example.ids) for example in others)
    assert len(longest.ids) > most
    assert encode(tokenizer, samples, Data(max_length=most), sight) == others


def test_a_models_own_sign_in_a_rows_text_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "mistral3", "mistral3")
    tokenizer = load_tokenizer(folder)
    data = rows(tmp_path / "data", 1)
    row = {"prompt": "what is [IMG] here?", "completion": "a sign"}
    data.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(TrainError, match="shows 1 pictures where the row has 0") as refused:
        encode(tokenizer, read_samples(Data(train=str(data))).train, Data(), Sight.of(folder, tokenizer))
    assert refused.value.code == "pictures-placed"

"""A run on pictures with classes: in every family from a folder of pictures to a proved adapter that knows its classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from classifying import COLOURS, FAMILIES, make, paint
from peft import PeftModel
from safetensors.torch import load_file
from test_settings import STARTER, hashes, run
from transformers import AutoConfig, AutoModelForImageClassification

from trainer.errors import TrainError
from trainer.evaluation.again import judge_again
from trainer.models.loading import load_base
from trainer.models.tokenizer import load_tokenizer
from trainer.operation import Operation, create, read_events
from trainer.report import Report
from trainer.spec import RunSpec
from trainer.vision.classifier import load_processor
from trainer.vision.shown import Shown, labelled


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def spec(model: Path, data: Path, **changes: Any) -> RunSpec:
    small = {
        "model": str(model), "data.train": str(data), "training.max_steps": 3, "training.batch_size": 6,
        "training.threads": 1, "lora.rank": 4, "optimizer.learning_rate": 5e-3,
    }  # fmt: skip
    return RunSpec().with_changes(small | changes)


def last(events: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    return [event for event in events if wanted.items() <= event.items()][-1]


@pytest.mark.parametrize("headed", [(), ("cat", "dog")])
@pytest.mark.parametrize("family", FAMILIES)
def test_classes_are_learned_judged_and_read_back(tmp_path: Path, family: str, headed: tuple[str, ...]) -> None:
    model = make(tmp_path / family, family, headed)
    events = run(tmp_path / "run", spec(model, paint(tmp_path / "data", 4)))
    assert [event["type"] for event in events].count("step") == 3
    assert events[-1]["type"] == "done" and events[-1]["checked"]
    parts = {row["part"]: row for event in events for row in event.get("coverage", [])}
    assert parts["head"]["trained"] == 1 and parts["MLP up"]["trained"] == 2
    base = last(events, type="eval", side="base")
    assert base["exact_match"] == pytest.approx(1 / 3) and base["loss"] == pytest.approx(1.09861, abs=1e-4)
    adapter = tmp_path / "run" / "adapter"
    config = AutoConfig.from_pretrained(adapter)
    assert list(config.id2label.values()) == sorted(COLOURS) and config.label2id["red"] == 2


def test_three_colours_are_told_apart_and_the_verdict_is_honest(tmp_path: Path) -> None:
    model, data = make(tmp_path / "vit", "vit"), paint(tmp_path / "data")
    events = run(tmp_path / "run", spec(model, data, **{"training.max_steps": 40}))
    both = last(events, type="eval", side="comparison")
    accuracy, macro_f1, loss = both["measures"]
    assert [accuracy["name"], macro_f1["name"], loss["name"]] == ["accuracy", "macro_f1", "loss"]
    assert accuracy["base"]["value"] == pytest.approx(1 / 3) and accuracy["tuned"]["value"] > 0.9
    assert macro_f1["base"]["value"] == pytest.approx(1 / 6) and macro_f1["tuned"]["value"] > 0.9
    assert accuracy["better"] and macro_f1["better"] and loss["better"]
    assert "had learned nothing, so it took every picture for blue" in both["verdict"]
    file = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    matrix = torch.tensor(file["confusion"])
    assert file["classes"] == ["blue", "green", "red"] and matrix.sum(1).tolist() == [12, 12, 12]
    assert int(matrix.trace()) / 36 == pytest.approx(accuracy["tuned"]["value"])
    assert last(events, type="step")["unit"] == "pictures"


def test_what_is_confused_is_told_with_its_pictures(tmp_path: Path) -> None:
    model, data = make(tmp_path / "vit", "vit"), paint(tmp_path / "data", 6)
    shutil.move(data / "valid" / "red" / "00.png", data / "valid" / "green" / "was-red.png")
    events = run(tmp_path / "run", spec(model, data, **{"training.max_steps": 40}))
    (pair, *_) = last(events, type="eval", side="comparison")["confused"]
    assert (pair["label"], pair["said"], pair["count"], pair["of"]) == ("green", "red", 1, 7)
    assert [Path(picture).name for picture in pair["pictures"]] == ["was-red.png"]
    assert last(events, type="eval", side="tuned")["exact_match"] == pytest.approx(17 / 18)


def test_an_adapter_from_disk_knows_its_classes(tmp_path: Path) -> None:
    model, data = make(tmp_path / "swin", "swin"), paint(tmp_path / "data", 4)
    run(tmp_path / "run", spec(model, data, **{"training.max_steps": 30}))
    adapter = tmp_path / "run" / "adapter"
    config = AutoConfig.from_pretrained(adapter)
    plain = AutoModelForImageClassification.from_pretrained(model, config=config, ignore_mismatched_sizes=True)
    again = PeftModel.from_pretrained(plain, adapter).eval()
    from trainer.data.reading import read_samples
    from trainer.spec import Data

    samples = read_samples(Data(train=str(data))).held_out
    pictures = labelled(samples, list(config.id2label.values()))
    with torch.inference_mode():
        said = Shown(again, load_processor(adapter)).logits(pictures).argmax(-1).tolist()
    assert [config.id2label[number] for number in said] == [sample.label for sample in samples]
    card = (adapter / "README.md").read_text(encoding="utf-8")
    assert "image-classification" in card and "AutoModelForImageClassification" in card and "macro F1" in card


@pytest.mark.parametrize("family", ["vit", "convnextv2"])
def test_a_run_goes_on_bit_for_bit_after_a_pause(tmp_path: Path, family: str) -> None:
    model, data = make(tmp_path / family, family), paint(tmp_path / "data", 4)
    settings = spec(model, data, **{"training.max_steps": 5, "lora.dropout": 0.1, "training.checkpoint_every": 1})
    run(tmp_path / "whole", settings)
    reported = Report.step

    def step_then_pause(self: Report, progress: Any, **figures: Any) -> None:
        reported(self, progress, **figures)
        self._terminated = progress.step == 3

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Report, "step", step_then_pause)
        assert run(tmp_path / "again", settings)[-1]["type"] == "paused"
    events = run(tmp_path / "again", settings)
    assert events[-1]["type"] == "done"
    assert [event["step"] for event in events if event["type"] == "step"] == [1, 2, 3, 4, 5]
    assert hashes(tmp_path / "whole") == hashes(tmp_path / "again")


def test_another_picture_of_the_same_name_is_told_when_a_run_goes_on(tmp_path: Path) -> None:
    model, data = make(tmp_path / "vit", "vit"), paint(tmp_path / "data", 4)
    settings = spec(model, data, **{"training.checkpoint_every": 1})
    run(tmp_path / "run", settings)
    shutil.copy(data / "train" / "red" / "03.png", data / "train" / "green" / "03.png")
    with open(data / "train" / "green" / "03.png", "ab") as file:
        file.write(b"more")
    with pytest.raises(TrainError) as refused:
        run(tmp_path / "run", settings)
    assert refused.value.code == "data-changed"


def test_smaller_portions_give_the_same_step(tmp_path: Path) -> None:
    model, data = make(tmp_path / "dinov2", "dinov2"), paint(tmp_path / "data", 4)
    losses = []
    for rows in (None, 4):
        changes = {"training.micro_batch_size": rows, "training.label_smoothing": 0.1}
        events = run(tmp_path / str(rows), spec(model, data, **changes))
        losses.append([event["loss"] for event in events if event["type"] == "step"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_the_best_adapter_by_the_held_out_loss_is_kept(tmp_path: Path) -> None:
    model, data = make(tmp_path / "vit", "vit"), paint(tmp_path / "data", 4)
    events = run(tmp_path / "run", spec(model, data, **{"training.evaluate_every": 1}))
    assert [event["step"] for event in events if event.get("side") == "training"] == [1, 2, 3]


@pytest.mark.parametrize("family", ["vit", "convnext"])
def test_activations_are_computed_twice_where_the_model_can(tmp_path: Path, family: str) -> None:
    model, data = make(tmp_path / family, family), paint(tmp_path / "data", 4)
    settings = spec(model, data, **{"training.gradient_checkpointing": "on"})
    if family == "vit":
        assert run(tmp_path / "run", settings)[-1]["type"] == "done"
        return
    with pytest.raises(TrainError) as refused:
        run(tmp_path / "run", settings)
    assert refused.value.code == "task-setting"


def test_a_base_in_bf16_trains_its_head_in_full(tmp_path: Path) -> None:
    model, data = make(tmp_path / "siglip", "siglip"), paint(tmp_path / "data", 4)
    events = run(tmp_path / "run", spec(model, data, **{"base_precision": "bf16", "training.precision": "bf16"}))
    assert events[-1]["type"] == "done" and events[-1]["checked"]
    saved = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    heads = [weight for name, weight in saved.items() if "classifier" in name]
    assert heads and all(weight.dtype == torch.float32 for weight in heads)


def test_a_head_of_the_same_classes_is_kept_and_judged_as_the_base(tmp_path: Path) -> None:
    model, data = make(tmp_path / "vit", "vit", ("red", "green", "blue")), paint(tmp_path / "data", 4)
    base = load_base(model, torch.float32, classes=("red", "green", "blue"))
    assert base.classifier.weight.any()
    events = run(tmp_path / "run", spec(model, data))
    assert AutoConfig.from_pretrained(tmp_path / "run" / "adapter").id2label == {0: "red", 1: "green", 2: "blue"}
    assert "had learned nothing" not in last(events, type="eval", side="comparison")["verdict"]


def test_rows_with_labels_are_learned_too_and_an_adapter_goes_on_with_its_classes(tmp_path: Path) -> None:
    model, data = make(tmp_path / "vit", "vit"), paint(tmp_path / "data", 4)
    run(tmp_path / "first", spec(model, data))
    rows = [{"picture": f"red/{number:02}.png", "label": "red"} for number in range(4)]
    rows += [{"picture": f"blue/{number:02}.png", "label": "blue"} for number in range(4)]
    file = data / "train" / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    going_on = {"lora.start_from": str(tmp_path / "first" / "adapter"), "data.held_out_share": 0.25}
    events = run(tmp_path / "second", spec(model, file, **going_on))
    assert events[-1]["type"] == "done"
    config = AutoConfig.from_pretrained(tmp_path / "second" / "adapter")
    assert list(config.id2label.values()) == ["blue", "green", "red"]
    file.write_text(
        file.read_text() + json.dumps({"picture": "red/00.png", "label": "violet"}) + "\n", encoding="utf-8"
    )
    with pytest.raises(TrainError, match="no class violet") as refused:
        run(tmp_path / "third", spec(model, file, **going_on))
    assert refused.value.code == "class-unknown"


def test_an_ended_run_is_judged_again_on_other_pictures(tmp_path: Path) -> None:
    model, data = make(tmp_path / "vit", "vit"), paint(tmp_path / "data", 4)
    settings = spec(model, data)
    run(tmp_path / "run", settings)
    about = {"spec": settings.model_dump(mode="json"), "adapter": str(tmp_path / "run" / "adapter")}
    for number, other in enumerate((None, str(paint(tmp_path / "other", 3, ("train",))))):
        folder = tmp_path / f"again-{number}"
        create(folder, {"id": "again", "kind": "evaluate", "title": "Again", **about, "data": other, "rows": None})
        with Operation(folder) as operation:
            judge_again(operation)
        assert last(read_events(folder), type="eval", side="comparison")["rows"] == (9 if other else 12)


def refused_run(tmp_path: Path, model: Path, data: Path, **changes: Any) -> TrainError:
    with pytest.raises(TrainError) as caught:
        run(tmp_path / "run", spec(model, data, **changes))
    assert not any(event.get("phase") == "model" for event in read_events(tmp_path / "run"))
    return caught.value


def test_what_cannot_be_learned_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    model, data = make(tmp_path / "vit", "vit"), paint(tmp_path / "data", 2)
    assert refused_run(tmp_path, STARTER, data).code == "task-mismatch"
    (tmp_path / "text.jsonl").write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n", encoding="utf-8")
    assert refused_run(tmp_path, model, tmp_path / "text.jsonl").code == "task-mismatch"
    assert refused_run(tmp_path, model, data, **{"training.sample_every": 2}).code == "task-setting"
    assert refused_run(tmp_path, model, data, **{"quantise": "4bit"}).code == "task-setting"
    (data / "train" / "violet").mkdir()
    assert "violet" in refused_run(tmp_path, model, data).message
    (data / "train" / "violet").rmdir()
    shutil.copytree(data / "valid" / "red", data / "valid" / "violet")
    assert refused_run(tmp_path, model, data).code == "class-unknown"
    shutil.rmtree(data / "valid")
    (data / "train" / "red" / "00.png").write_bytes(b"no picture")
    assert refused_run(tmp_path, model, data).code == "picture-unreadable"
    for name in ("red", "green"):
        shutil.rmtree(data / "train" / name)
    assert refused_run(tmp_path, model, data).code == "class-single"
    (model / "preprocessor_config.json").unlink()
    assert refused_run(tmp_path, model, paint(tmp_path / "whole", 2)).code == "processor-missing"
    with pytest.raises(TrainError, match="nothing to say"):
        load_tokenizer(model)

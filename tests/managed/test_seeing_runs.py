"""A run of a model that sees, from rows with pictures to a proved adapter, in every family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from seeing import FAMILIES, STARTER, make
from test_settings import run

from trainer.data.masks import IGNORED, encode
from trainer.data.reading import read_samples
from trainer.data.templates import Renderer
from trainer.errors import TrainError
from trainer.evaluation.judging import question
from trainer.models.tokenizer import load_tokenizer
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

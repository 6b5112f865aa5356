"""Every family that sees takes pictures by its own processor's rules, without torchvision."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from seeing import FAMILIES, make
from transformers import AutoModelForImageTextToText, AutoTokenizer
from transformers.models.auto.processing_auto import AutoProcessor

from trainer.errors import TrainError
from trainer.vision.processor import Processor

SIZES = ((60, 30), (60, 44), (31, 97))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: make(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


def noise(size: tuple[int, int], seed: int) -> Image.Image:
    values = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(seed))
    return Image.frombytes("RGB", size, bytes(values.flatten().tolist()))


def loss_of(model: Any, text: str, tokenizer: Any, processor: Processor, inputs: dict[str, torch.Tensor]) -> float:
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    taken = inspect.signature(model.forward).parameters
    types = {name: processor.types(ids) for name in ("mm_token_type_ids", "token_type_ids") if name in taken}
    with torch.inference_mode():
        return float(model(input_ids=ids, labels=ids, **inputs, **types).loss)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_takes_pictures_of_several_rows_as_its_processor_makes_them(
    folders: dict[str, Path], family: str
) -> None:
    """It refuses another number of placeholders than its tower gives, and feels each picture in its place."""
    tokenizer = AutoTokenizer.from_pretrained(folders[family])
    processor = Processor.load(folders[family], tokenizer)
    model = AutoModelForImageTextToText.from_pretrained(folders[family])
    pictures = [noise(size, seed) for seed, size in enumerate(SIZES)]
    rows = [processor.process(pictures[:1]), processor.process(pictures[1:])]
    text = "".join(f"here is{each}and" for row in rows for each in row.texts)
    loss = loss_of(model, text, tokenizer, processor, processor.join(rows))
    other = [processor.process([noise(SIZES[0], 9)]), rows[1]]
    assert other[0].texts == rows[0].texts
    assert loss_of(model, text, tokenizer, processor, processor.join(other)) != loss
    with pytest.raises((ValueError, RuntimeError, IndexError)):
        loss_of(model, text + processor.process(pictures[:1]).texts[0], tokenizer, processor, processor.join(rows))


@pytest.mark.parametrize("family", ["llava", "gemma3"])  # the others' load only beside torchvision
def test_it_is_what_the_familys_whole_processor_gives(folders: dict[str, Path], family: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders[family])
    whole: Any = AutoProcessor.from_pretrained(folders[family], backend="pil")
    processor = Processor.load(folders[family], tokenizer)
    picture = noise(SIZES[1], 1)
    mine = processor.process([picture])
    its = whole(text=f"here{processor.token}is", images=[picture], return_tensors="pt")
    assert its["input_ids"][0].tolist() == tokenizer(f"here{mine.texts[0]}is")["input_ids"]
    for name, value in processor.join([mine]).items():
        torch.testing.assert_close(value, its[name])


def test_a_model_that_sees_needs_its_processor(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["llava"], tmp_path / "blind")
    for name in ("processor_config.json", "preprocessor_config.json"):
        (tmp_path / "blind" / name).unlink()
    with pytest.raises(TrainError) as refused:
        Processor.load(tmp_path / "blind", AutoTokenizer.from_pretrained(tmp_path / "blind"))
    assert refused.value.code == "processor-missing"

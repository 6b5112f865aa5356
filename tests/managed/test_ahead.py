"""Pictures come ready, in their rows, and are opened once."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from seeing import make
from test_seeing_runs import rows

from trainer.data.batches import training_batches
from trainer.data.masks import Example, encode
from trainer.data.reading import read_samples
from trainer.data.token_cache import encode_cached
from trainer.errors import TrainError
from trainer.models.tokenizer import load_tokenizer
from trainer.spec import Data
from trainer.vision import opening
from trainer.vision.ahead import ahead
from trainer.vision.processor import Processor
from trainer.vision.sight import Ready, Sight, inputs


@pytest.fixture
def tokenizer_and_folder(tmp_path: Path) -> tuple[Any, Path]:
    folder = make(tmp_path / "llava", "llava")
    return load_tokenizer(folder), folder


def examples_of(tokenizer_and_folder: tuple[Any, Path], tmp_path: Path, room: int) -> list[Example]:
    tokenizer, folder = tokenizer_and_folder
    samples = read_samples(Data(train=str(rows(tmp_path / "data", 6)))).train
    return encode(tokenizer, samples, Data(), Sight(Processor.load(folder, tokenizer), room))


@pytest.mark.parametrize("room", [1 << 30, 0])
def test_batches_are_the_same_and_what_has_room_is_opened_once(
    tokenizer_and_folder: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    opened = list[object]()
    monkeypatch.setattr(opening, "as_rgb", lambda image, real=opening.as_rgb: opened.append(image) or real(image))
    examples = examples_of(tokenizer_and_folder, tmp_path, room)
    first = len(opened)
    plain, early = (training_batches(examples, 0, 3, seed=4) for _ in range(2))
    for one, other in islice(zip(plain, ahead(early), strict=False), 8):
        assert torch.equal(one.input_ids, other.input_ids)
        assert all(isinstance(each, Ready) for each in other.seen if each)
        wanted, found = inputs(one.seen, one.input_ids), inputs(other.seen, other.input_ids)
        assert wanted.keys() == found.keys() and all(map(torch.equal, wanted.values(), found.values()))
    assert (len(opened) == first) == (room > 0)


def test_a_picture_that_is_gone_is_told_in_its_turn(tokenizer_and_folder: tuple[Any, Path], tmp_path: Path) -> None:
    examples = examples_of(tokenizer_and_folder, tmp_path, room=0)
    for file in (tmp_path / "data").glob("*.png"):
        file.unlink()
    with pytest.raises(TrainError, match=r"line \d+: the picture .*png cannot be used"):
        list(islice(ahead(training_batches(examples, 0, 3, seed=4)), 8))


def test_tokens_of_rows_with_pictures_are_kept_until_a_picture_changes(
    tokenizer_and_folder: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, folder = tokenizer_and_folder
    opened = list[object]()
    monkeypatch.setattr(opening, "as_rgb", lambda image, real=opening.as_rgb: opened.append(image) or real(image))
    samples = read_samples(Data(train=str(rows(tmp_path / "data", 6)))).train

    def encoded() -> list[Example]:
        sight = Sight(Processor.load(folder, tokenizer))
        return list(encode_cached(tokenizer, samples, Data(), tmp_path / "tokens", sight=sight).examples)

    first, count = encoded(), len(opened)
    again = encoded()
    assert len(opened) == count > 0
    for one, other in zip(first, again, strict=True):
        assert (one.ids, one.labels, one.place) == (other.ids, other.labels, other.place)
        assert (one.seen and one.seen.pictures) == (other.seen and other.seen.pictures)
    assert sum(bool(each.seen) for each in again) == 7
    Image.new("RGB", (50, 20), (1, 2, 3)).save(tmp_path / "data" / "3.png")
    encoded()
    assert len(opened) == 2 * count

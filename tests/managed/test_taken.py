"""What a person is shown of a picture is what the model takes of it, in every family."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from seeing import FAMILIES, make
from test_preview import shown

from trainer.data.masks import encode
from trainer.data.reading import read_samples
from trainer.models.tokenizer import load_tokenizer
from trainer.spec import Data
from trainer.vision.sight import Sight

LEFT, RIGHT = (210, 30, 40), (20, 60, 200)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def row_with_a_picture(folder: Path) -> Data:
    image = Image.new("RGB", (56, 40), LEFT)
    image.paste(RIGHT, (28, 0, 56, 40))
    image.save(folder / "two.png")
    row = {"prompt": "<image> which colours?", "completion": "red and blue", "image": "two.png"}
    (folder / "rows.jsonl").write_text(json.dumps(row), encoding="utf-8")
    return Data(train=str(folder / "rows.jsonl"))


def near(image: Any, x: float, colour: tuple[int, int, int]) -> bool:
    found = image.getpixel((round(x * (image.width - 1)), image.height // 2))
    return max(abs(one - other) for one, other in zip(found, colour, strict=True)) <= 12


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pictures_tiles_and_tokens_are_those_of_training(tmp_path: Path, family: str) -> None:
    folder, data = make(tmp_path / family, family), row_with_a_picture(tmp_path)
    (row,) = shown(folder, data, statistics=False)["row"]
    (picture,) = row["pictures"]
    assert picture["size"] == (56, 40)
    tiles = [Image.open(io.BytesIO(base64.b64decode(tile.partition(",")[2]))) for tile in picture["tiles"]]
    whole = tiles[-1]  # where there are several, the last is the whole picture
    assert whole.size == picture["tile"]
    assert near(whole, 0.15, LEFT) and near(whole, 0.85, RIGHT)

    tokenizer = load_tokenizer(folder)
    sight = Sight.of(folder, tokenizer)
    (example,) = encode(tokenizer, read_samples(data).train, data, sight)
    assert sight and picture["tokens"] == list(example.ids).count(
        tokenizer.convert_tokens_to_ids(sight.processor.token)
    )
    tokens = row["texts"][0]["tokens"]
    assert [token["id"] for token in tokens for _ in range(token["times"])] == list(example.ids)
    assert len(tokens) < len(example.ids)

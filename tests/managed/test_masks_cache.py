"""Tokens on disk are the tokens that would be made again, or they are made again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import trainer.data.masks
from trainer.data import token_cache
from trainer.data.batches import row_lengths, training_batches
from trainer.data.masks import encode_all
from trainer.data.samples import Place, Sample
from trainer.data.token_cache import StoredExamples, encode_cached
from trainer.loop import train
from trainer.models.tokenizer import load_tokenizer
from trainer.operation import Operation, create
from trainer.spec import Data, RunSpec
from trainer.starter import skills

STARTER = Path(skills.__file__).parent / "model"


@pytest.fixture
def tokenizer() -> Any:
    return load_tokenizer(STARTER)


@pytest.fixture
def samples() -> list[Sample]:
    rows = skills.rows("ticket", "train", 30, 0)
    return [Sample("conversation", Place("a.jsonl", n, n), tuple(row["messages"])) for n, row in enumerate(rows, 1)]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each tokenisation had."""
    counts: list[int] = []
    real = trainer.data.masks.encode_into

    def counting(target: Any, tokenizer: Any, samples: Any, *rest: Any) -> Any:
        counts.append(len(samples))
        return real(target, tokenizer, samples, *rest)

    monkeypatch.setattr(token_cache, "encode_into", counting)
    return counts


def test_stored_rows_are_those_of_a_fresh_tokenisation_and_are_made_once(
    tmp_path: Path, tokenizer: Any, samples: list[Sample], made: list[int]
) -> None:
    data = Data(max_length=60)
    fresh = encode_all(tokenizer, samples, data)
    for _ in range(2):
        stored = encode_cached(tokenizer, samples, data, tmp_path)
        assert isinstance(stored.examples, StoredExamples)
        assert list(stored.examples) == fresh.examples and stored.examples[3:5] == fresh.examples[3:5]
        assert row_lengths(stored.examples) == [len(example.ids) for example in fresh.examples]
        assert (stored.findings, stored.lengths, stored.template) == (fresh.findings, fresh.lengths, fresh.template)
        assert (stored.learned, stored.tokens) == (fresh.learned, fresh.tokens)
    assert made == [30]
    assert not list(tmp_path.glob(".*"))


def test_whatever_decides_the_tokens_names_another_entry(
    tmp_path: Path, tokenizer: Any, samples: list[Sample], made: list[int]
) -> None:
    def again(data: Data = Data(), rows: list[Sample] = samples) -> None:
        encode_cached(tokenizer, rows, data, tmp_path)

    again()
    for data in (Data(max_length=99), Data(truncation="drop"), Data(train_on="last"), Data(train_on="everything")):
        again(data)
    again(rows=samples[1:])
    again(rows=[*samples[1:], Sample("conversation", Place("b.jsonl", 1), samples[0].messages)])
    tokenizer.chat_template += " "
    again()
    tokenizer.add_tokens(["<new>"])
    again()
    assert len(made) == len(list(tmp_path.iterdir())) == 9


@pytest.mark.parametrize("file", ["ids.int32", "labels.int32", "rows.int64", "meta.json"])
def test_a_damaged_entry_is_made_again(
    tmp_path: Path, tokenizer: Any, samples: list[Sample], made: list[int], file: str
) -> None:
    encode_cached(tokenizer, samples, Data(), tmp_path)
    (entry,) = tmp_path.iterdir()
    content = bytearray((entry / file).read_bytes())
    content[0] ^= 1
    (entry / file).write_bytes(content)
    again = encode_cached(tokenizer, samples, Data(), tmp_path)
    assert list(again.examples) == encode_all(tokenizer, samples, Data()).examples and len(made) == 2
    encode_cached(tokenizer, samples, Data(), tmp_path)
    assert len(made) == 2


def test_a_folder_that_cannot_be_written_costs_only_the_cache(
    tmp_path: Path, tokenizer: Any, samples: list[Sample]
) -> None:
    (tmp_path / "file").write_text("")
    encoded = encode_cached(tokenizer, samples, Data(), tmp_path / "file")
    assert encoded.examples == encode_all(tokenizer, samples, Data()).examples


def test_the_cache_keeps_to_its_size_and_forgets_what_was_not_used_longest(
    tmp_path: Path, tokenizer: Any, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, made: list[int]
) -> None:
    import os

    encode_cached(tokenizer, samples, Data(), tmp_path)
    (first,) = tmp_path.iterdir()
    monkeypatch.setattr(token_cache, "MOST_BYTES", int(2.5 * token_cache._bytes(first)))
    os.utime(first, (1, 1))
    encode_cached(tokenizer, samples, Data(train_on="last"), tmp_path)
    encode_cached(tokenizer, samples, Data(), tmp_path)  # used again, so the other one is older
    (second,) = {*tmp_path.iterdir()} - {first}
    os.utime(second, (2, 2))
    shutil.copytree(first, tmp_path / ".killed.part")
    os.utime(tmp_path / ".killed.part", (2, 2))
    encode_cached(tokenizer, samples, Data(max_length=500), tmp_path)
    left = {*tmp_path.iterdir()}
    assert first in left and second not in left and len(left) == 2


def test_a_run_from_the_cache_gives_the_same_adapter(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    skills.write(tmp_path, "ticket", training=24, held_out=2)
    wanted = {"model": str(STARTER), "data.train": str(tmp_path / "train.jsonl"), "training.max_steps": 2, "training.threads": 1}  # fmt: skip
    adapters = []
    for name, cache in (("none", None), ("filled", "tokens"), ("used", "tokens")):
        spec = RunSpec().with_changes(wanted)
        record = {"id": name, "kind": "train", "title": name, "spec": spec.model_dump(mode="json")} | (
            {"token_cache": str(tmp_path / cache)} if cache else {}
        )
        create(tmp_path / name, record)
        with Operation(tmp_path / name) as operation:
            train(operation, spec)
        adapters.append(load_file(tmp_path / name / "adapter" / "adapter_model.safetensors"))
    assert len(list((tmp_path / "tokens").iterdir())) == 1
    for other in adapters[1:]:
        assert all(torch.equal(adapters[0][part], other[part]) for part in other)


def test_batches_of_stored_rows_are_batches_of_the_rows(tmp_path: Path, tokenizer: Any, samples: list[Sample]) -> None:
    stored = encode_cached(tokenizer, samples, Data(), tmp_path).examples
    fresh = encode_all(tokenizer, samples, Data()).examples
    for one, other, _ in zip(
        training_batches(stored, 0, 4, 1), training_batches(fresh, 0, 4, 1), range(9), strict=False
    ):
        assert torch.equal(one.input_ids, other.input_ids) and torch.equal(one.labels, other.labels)

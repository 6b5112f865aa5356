"""What is known of a model's folder before any of its weights are loaded."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from trainer.errors import TrainError
from trainer.models.checking import check_folder
from trainer.models.fitting import check_rows
from trainer.models.weights import INDEX, read_weights
from trainer.starter import skills

STARTER = Path(skills.__file__).parent / "model"
VOCABULARY = 1024


@pytest.fixture
def model(tmp_path: Path) -> Path:
    shutil.copytree(STARTER, tmp_path / "model")
    return tmp_path / "model"


def refused(folder: Path) -> TrainError:
    with pytest.raises(TrainError) as caught:
        check_folder(folder)
    return caught.value


def with_header(folder: Path, change: Any) -> None:
    """Rewrite the header of the weights, and leave their bytes as they are."""
    file = folder / "model.safetensors"
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = change(json.loads(data[8 : 8 + length]))
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def with_config(folder: Path, **change: Any) -> None:
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, **change}))


def sharded(folder: Path) -> list[str]:
    """The weights in two files with an index."""
    data = (folder / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    names, place = sorted(header, key=lambda name: header[name]["data_offsets"]), {}
    for number, part in enumerate((names[:5], names[5:])):
        begin = header[part[0]]["data_offsets"][0]
        end = header[part[-1]]["data_offsets"][1]
        own = {n: {**header[n], "data_offsets": [at - begin for at in header[n]["data_offsets"]]} for n in part}
        text = json.dumps(own).encode()
        file = f"model-{number + 1:05}-of-00002.safetensors"
        (folder / file).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :][begin:end])
        place |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": place}))
    return sorted(set(place.values()))


def test_the_starter_and_its_shards_are_whole(model: Path) -> None:
    check_folder(model)
    whole = read_weights(model)
    sharded(model)
    check_folder(model)
    assert read_weights(model) == whole
    assert (whole.embedding_rows(), whole.layers()) == (VOCABULARY, 4)


def test_a_missing_shard_and_an_index_that_leads_outside_are_refused(model: Path) -> None:
    first, second = sharded(model)
    (model / second).unlink()
    error = refused(model)
    assert error.code == "model-weights" and f"{second} is missing, one of 1 of 2 files" in error.message
    (model / INDEX).write_text(json.dumps({"weight_map": {"a": f"../{first}"}}))
    assert "outside of the folder" in refused(model).message


def overlapping(header: dict[str, Any]) -> dict[str, Any]:
    names = [name for name in header if name != "__metadata__"]
    return {**header, names[1]: {**header[names[1]], "data_offsets": header[names[0]]["data_offsets"]}}


@pytest.mark.parametrize(
    "lie",
    [
        overlapping,
        lambda header: {**header, "more": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
        lambda header: {k: {**v, "shape": [-1, *v["shape"][1:]]} if "shape" in v else v for k, v in header.items()},
        lambda header: {k: {**v, "dtype": "F1"} if "dtype" in v else v for k, v in header.items()},
        lambda header: {k: v for k, v in header.items() if "layers.3" not in k},
        lambda header: {k: "tensor" for k in header},
        lambda header: b"[" * 100_000,
        lambda header: b"{}",
        lambda header: b"not json",
    ],
)
def test_a_header_that_lies_is_refused(model: Path, lie: Any) -> None:
    with_header(model, lie)
    error = refused(model)
    assert error.code == "model-invalid" and "model.safetensors" in error.message and "is damaged" in error.message


@pytest.mark.parametrize("length", [0, 7, 2**63, 10**9])
def test_a_header_of_impossible_length_is_refused(model: Path, length: int) -> None:
    file = model / "model.safetensors"
    file.write_bytes(struct.pack("<Q", length) + file.read_bytes()[8:])
    assert refused(model).code == "model-invalid"


def test_a_file_that_was_cut_is_refused(model: Path) -> None:
    file = model / "model.safetensors"
    for size in (file.stat().st_size - 1, 100, 8, 3, 0):
        file.write_bytes(file.read_bytes()[:size])
        assert refused(model).code == "model-invalid"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vocab_size": 32000}, "says `vocab_size` 32000, and the weights have 1024"),
        ({"num_hidden_layers": 2}, "says `num_hidden_layers` 2, and the weights have 4"),
        ({"num_hidden_layers": 5}, "says `num_hidden_layers` 5, and the weights have 4"),
    ],
)
def test_a_configuration_of_another_model_is_refused(model: Path, change: dict[str, int], said: str) -> None:
    with_config(model, **change)
    error = refused(model)
    assert error.code == "model-mismatch" and said in error.message


def test_layers_that_guess_ahead_are_no_mismatch(model: Path) -> None:
    with_config(model, num_hidden_layers=3, num_nextn_predict_layers=1)
    check_folder(model)


def test_rows_that_the_model_cannot_read_are_refused_before_it_is_loaded(model: Path) -> None:
    check_rows(model, [[1, VOCABULARY - 1], [2] * 20], pad=0)
    for rows, pad in (([[1, VOCABULARY]], 0), ([[1]], VOCABULARY)):
        with pytest.raises(TrainError) as caught:
            check_rows(model, rows, pad)
        assert (
            caught.value.code == "vocabulary-mismatch"
            and "token 1,024, and the model knows 1,024" in caught.value.message
        )
    with_config(model, max_position_embeddings=19)
    with pytest.raises(TrainError) as caught:
        check_rows(model, [[1], [2] * 20], pad=0)
    assert (
        caught.value.code == "length-beyond-model"
        and "20 tokens, and the model reads at most 19" in caught.value.message
    )


def with_code(folder: Path) -> str:
    """Let the model want code of its own; returns the fingerprint that its refusal prints."""
    with_config(folder, auto_map={"AutoModelForCausalLM": "own.Own"})
    (folder / "own.py").write_text("class Own: ...\n")
    error = refused(folder)
    assert error.code == "model-needs-code" and "1 Python files" in error.message
    return error.remedy.split("`trust_code` to ")[1].split(";")[0]


def test_code_is_trusted_byte_for_byte(model: Path) -> None:
    trusted = with_code(model)
    check_folder(model, trusted)
    (model / "own.py").write_text("class Own: ... \n")
    with pytest.raises(TrainError, match="has changed since it was trusted"):
        check_folder(model, trusted)
    (model / "own.py").write_text("class Own: ...\n")
    check_folder(model, trusted)
    (model / "sub").mkdir()
    (model / "sub" / "more.py").write_text("")
    with pytest.raises(TrainError, match="has changed"):
        check_folder(model, trusted)
    shutil.rmtree(model / "sub")
    with_config(model, auto_map={"AutoModelForCausalLM": "own.Other"})
    with pytest.raises(TrainError, match="has changed"):
        check_folder(model, trusted)


def test_moving_text_between_files_is_another_code(model: Path) -> None:
    with_code(model)
    found = set()
    for first, second in (("a", "bc"), ("ab", "c"), ("abc", "")):
        (model / "own.py").write_text(first)
        (model / "own2.py").write_text(second)
        found.add(refused(model).remedy)
    assert len(found) == 3


def test_code_from_elsewhere_is_never_trusted(model: Path) -> None:
    trusted = with_code(model)
    with_config(model, auto_map={"AutoModelForCausalLM": "owner/name--own.Own"})
    with pytest.raises(TrainError, match="not in its folder"):
        check_folder(model, trusted)


def test_pickled_weights_are_refused_with_the_way_to_convert_them(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    error = refused(model)
    assert error.code == "model-pickled" and f"fettle model convert {model} --output NEW" in error.remedy

"""Models that bring code: pickles are converted without calling anything, own classes run by consent only."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_families import tiny

from trainer.errors import TrainError
from trainer.models.converting import convert
from trainer.models.loading import load_base

CLEAN = {"PATH": os.environ.get("PATH", "")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny("llama").save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def pickled(folder: Path, parts: int = 1) -> dict[str, torch.Tensor]:
    """The folder with its weights in that many pickles, the head sharing its bytes with the embeddings."""
    weights = dict(load_base(folder, torch.float32).state_dict())
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    (folder / "model.safetensors").unlink()
    for number in range(parts):
        name = "pytorch_model.bin" if parts == 1 else f"pytorch_model-{number + 1:05}-of-{parts:05}.bin"
        torch.save({key: weights[key] for key in list(weights)[number::parts]}, folder / name)
    return weights


@pytest.mark.parametrize("parts", [1, 3])
def test_converted_weights_are_the_same(folder: Path, tmp_path: Path, parts: int) -> None:
    weights = pickled(folder, parts)
    convert(Path(sys.executable), folder, tmp_path / "new", CLEAN)
    model = load_base(tmp_path / "new", torch.float32)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert not list((tmp_path / "new").glob("*.bin"))


class Call:
    """Unpickles by calling."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_calls_something_is_refused_and_calls_nothing(folder: Path, tmp_path: Path, zipped: bool) -> None:
    pickled(folder)
    mark = tmp_path / "called"
    torch.save({"a": Call(mark)}, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(TrainError) as caught:
        convert(Path(sys.executable), folder, tmp_path / "new", CLEAN)
    assert caught.value.code == "model-pickle-refused" and "would call posix.system" in caught.value.message
    assert not mark.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def bomb(file: Path) -> None:
    """A tensor of a terabyte over a storage of a few bytes."""
    torch.save({"a": torch.zeros(1).expand(2**38)}, file)


@pytest.mark.parametrize(
    "write",
    [
        bomb,
        lambda file: file.write_bytes(b"not a pickle"),
        lambda file: file.write_bytes(pickle.dumps({"a": 1})),
        lambda file: torch.save([torch.zeros(2)], file),
        lambda file: torch.save({"a": "text"}, file),
        lambda file: file.write_bytes(file.read_bytes()[:-1000]),
    ],
)
def test_what_is_no_plain_weights_is_refused_and_leaves_nothing(folder: Path, tmp_path: Path, write: Any) -> None:
    pickled(folder)
    write(folder / "pytorch_model.bin")
    with pytest.raises(TrainError) as caught:
        convert(Path(sys.executable), folder, tmp_path / "new", CLEAN)
    assert caught.value.code == "model-pickle-refused"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_models_own_class_runs_by_consent_only(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "ran"
    (folder / "own.py").write_text(
        f"open({str(mark)!r}, 'w').close()\nfrom transformers import LlamaForCausalLM\n\n\nclass Own(LlamaForCausalLM):\n    pass\n"
    )
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("{", '{"auto_map": {"AutoModelForCausalLM": "own.Own"},', 1))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    with pytest.raises(TrainError) as caught:
        load_base(folder, torch.float32)
    assert caught.value.code == "model-needs-code" and not mark.exists()
    trusted = caught.value.remedy.split("`trust_code` to ")[1].split(";")[0]
    model = load_base(folder, torch.float32, trust_code=trusted)
    assert type(model).__name__ == "Own" and mark.exists()
    (folder / "own.py").write_text((folder / "own.py").read_text() + "# changed\n")
    mark.unlink()
    with pytest.raises(TrainError, match="changed since it was trusted"):
        load_base(folder, torch.float32, trust_code=trusted)
    assert not mark.exists()

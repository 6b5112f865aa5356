"""Loading: in other precisions, quantised, from shards, with untied heads; and what is found out only by loading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_families import moves_what_it_reports, tiny
from test_settings import run

from trainer.errors import TrainError
from trainer.models.adapting import with_lora
from trainer.models.loading import load_base
from trainer.models.weights import INDEX
from trainer.spec import Lora, RunSpec
from trainer.starter import skills

WHOLE = {"modules_to_save": "lm_head, norm"}
STARTER = Path(skills.__file__).parent / "model"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny("llama", tie_word_embeddings=False).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    skills.write(tmp_path, "ticket", training=32, held_out=2)
    small = {
        "model": str(STARTER), "data.train": str(tmp_path / "train.jsonl"), "training.max_steps": 4,
        "training.threads": 1, "training.device": "cpu", "training.precision": "fp32", "optimizer.learning_rate": 5e-3,
    }  # fmt: skip
    return RunSpec().with_changes(small)


def losses(events: list[dict[str, Any]]) -> list[float]:
    return [event["loss"] for event in events if event["type"] == "step"]


def test_shards_hold_the_same_model(folder: Path, tmp_path: Path) -> None:
    whole = load_base(folder, torch.float32)
    whole.save_pretrained(tmp_path / "sharded", max_shard_size="100KB")
    assert (tmp_path / "sharded" / INDEX).is_file()
    again = load_base(tmp_path / "sharded", torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_an_untied_head_is_a_matrix_of_its_own(folder: Path) -> None:
    model = load_base(folder, torch.float32)
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    moves_what_it_reports(with_lora(model, Lora(rank=4, modules_to_save="lm_head")))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("quantise", ["none", "4bit", "8bit"])
def test_a_base_of_few_bits_learns_much_the_same(tmp_path: Path, spec: RunSpec, precision: str, quantise: str) -> None:
    if quantise == "8bit":  # its rows are padded, and rows that are come in another order
        spec = spec.with_changes({"training.end_to_end": "off"})
    plain = losses(run(tmp_path / "plain", spec))
    events = run(tmp_path / "packed", spec.with_changes({"base_precision": precision, "quantise": quantise}))
    assert events[-1]["type"] == "done"
    found = losses(events)
    assert found == pytest.approx(plain, rel=0.1)
    assert found[-1] < found[0]
    assert next(each["parameters"] for each in events if "coverage" in each) == 1_148_032  # weights, not bytes
    assert (found == plain) == (precision == "fp32" and quantise == "none")


@pytest.mark.parametrize("quantise", ["4bit", "8bit"])
def test_a_quantised_base_is_not_changed_by_being_judged(quantise: str) -> None:
    ids = torch.arange(5, 60)[None]
    model = load_base(STARTER, torch.float32, quantise)
    trained = model.train()(input_ids=ids).logits
    with torch.inference_mode():
        judged = model.eval()(input_ids=ids).logits
    assert torch.equal(trained, model.train()(input_ids=ids).logits)
    assert torch.equal(trained, judged) == (quantise == "4bit")  # 8-bit products are rounded otherwise in training


@pytest.mark.parametrize(
    ("family", "lora"),
    [("llama", {}), ("llama", {"dora": True}), ("llama", WHOLE), ("mixtral", {}), ("mixtral", WHOLE)],
)
def test_everything_that_is_trained_on_a_half_precise_base_is_whole(family: str, lora: dict[str, Any]) -> None:
    adapted = with_lora(tiny(family).to(torch.bfloat16), Lora(rank=4, **lora))
    assert {weight.dtype for weight in adapted.model.parameters() if weight.requires_grad} == {torch.float32}
    moves_what_it_reports(adapted)


def test_tensors_that_the_configuration_does_not_speak_of_are_named(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    for changed, said in (
        (
            {key: value for key, value in weights.items() if key != name},
            f"lack 1 tensors that its config.json speaks of otherwise, as {name}",
        ),
        ({**weights, "model.layers.1.mlp.extra.weight": torch.zeros(2)}, "also hold 1 tensors"),
        ({**weights, name: torch.zeros(96, 64)}, name),
    ):
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(TrainError) as caught:
            load_base(folder, torch.float32)
        assert caught.value.code == "model-mismatch" and said in caught.value.message


def test_a_configuration_of_another_architecture_is_refused(folder: Path) -> None:
    told = json.loads((folder / "config.json").read_text())
    told.update(model_type="gpt_neox", architectures=["GPTNeoXForCausalLM"])
    (folder / "config.json").write_text(json.dumps(told))
    with pytest.raises(TrainError) as caught:
        load_base(folder, torch.float32)
    assert caught.value.code == "model-mismatch" and "embed_in" in caught.value.message


def test_without_bitsandbytes_quantising_is_refused_with_the_way_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(TrainError) as caught:
        load_base(STARTER, torch.float32, "4bit")
    assert caught.value.code == "quantise-unavailable"

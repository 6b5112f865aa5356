"""What an adapter is: its kinds, what is trained beside it, and going on with one that was trained before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from test_families import learn, moves_what_it_reports, tiny
from test_settings import hashes, run

from trainer.errors import TrainError
from trainer.models.adapting import with_lora
from trainer.models.loading import load_base
from trainer.report import Report
from trainer.spec import Lora, RunSpec
from trainer.starter import skills

STARTER = Path(skills.__file__).parent / "model"
IDS = torch.tensor([[5, 9, 17, 33, 65]])


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    skills.write(tmp_path, "ticket", training=32, held_out=2)
    small = {
        "model": str(STARTER), "data.train": str(tmp_path / "train.jsonl"), "training.max_steps": 4,
        "training.threads": 1, "lora.rank": 4, "training.checkpoint_every": 1,
    }  # fmt: skip
    return RunSpec().with_changes(small)


def saved(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = load_file(folder / "adapter" / "adapter_model.safetensors")
    return tensors


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3_5_text", "falcon_h1"])
@pytest.mark.parametrize("kind", [{"rslora": True}, {"dora": True}, {"modules_to_save": "lm_head, norm"}])
def test_each_kind_moves_what_it_reports_and_answers_the_same_when_loaded_again(
    tmp_path: Path, family: str, kind: dict[str, Any]
) -> None:
    if family in ("gpt2", "falcon_h1") and "modules_to_save" in kind:
        kind = {"modules_to_save": "lm_head"}  # their norms are called otherwise
    adapted = with_lora(tiny(family), Lora(rank=4, **kind))
    moves_what_it_reports(adapted)
    adapted.model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(tiny(family), tmp_path).eval()
    with torch.inference_mode():
        assert torch.equal(adapted.model.eval()(input_ids=IDS).logits, again(input_ids=IDS).logits)


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss", "deepseek_v3"])
def test_adapted_experts_answer_the_same_when_loaded_again(tmp_path: Path, family: str) -> None:
    for asked in ("all-linear", "attention, mlp"):
        adapted = with_lora(tiny(family), Lora(rank=4, target_modules=asked))
        learn(adapted)
        adapted.model.save_pretrained(tmp_path / asked)
        again = PeftModel.from_pretrained(tiny(family), tmp_path / asked).eval()
        with torch.inference_mode():
            assert torch.equal(adapted.model.eval()(input_ids=IDS).logits, again(input_ids=IDS).logits)


def test_rank_stabilised_scaling_is_alpha_over_the_root_of_the_rank() -> None:
    for rslora, expected in ((False, 32 / 4), (True, 32 / 2)):
        model = with_lora(tiny("llama"), Lora(rank=4, alpha=32, rslora=rslora)).model
        assert model.base_model.model.model.layers[0].self_attn.q_proj.scaling["default"] == expected


def test_what_is_trained_whole_is_counted_whole() -> None:
    rows = {
        row.part: row for row in with_lora(tiny("llama"), Lora(rank=4, modules_to_save="lm_head, mlp")).coverage.rows
    }
    assert (rows["head"].trained, rows["head"].parameters) == (1, 256 * 64)
    assert (rows["MLP up"].trained, rows["MLP up"].parameters) == (2, 2 * 128 * 64)


def test_a_head_and_embeddings_that_are_one_matrix_stay_one() -> None:
    adapted = with_lora(tiny("qwen3", tie_word_embeddings=True), Lora(rank=4, modules_to_save="lm_head"))
    learn(adapted)
    base = adapted.model.base_model.model
    head, embeddings = (each.modules_to_save["default"].weight for each in (base.lm_head, base.model.embed_tokens))
    assert torch.equal(head, embeddings)
    assert not torch.equal(head, base.lm_head.original_module.weight)


@pytest.mark.parametrize(
    ("lora", "code", "said"),
    [
        ({"modules_to_save": "lm_head, heads"}, "lora-coverage", "names heads"),
        ({"rank": 65}, "lora-rank", "no adapted layer has more than 64"),
        ({"start_from": "nowhere"}, "adapter-missing", "adapter_config.json in nowhere"),
    ],
)
def test_what_cannot_be_is_refused(lora: dict[str, Any], code: str, said: str) -> None:
    with pytest.raises(TrainError) as caught:
        with_lora(tiny("llama"), Lora(**lora))
    assert caught.value.code == code and said in caught.value.message


def test_a_rank_beyond_some_layers_is_told_by_name() -> None:
    assert (
        "rank 16 is more than the smaller side of in_proj_a (4), in_proj_b (4)"
        in with_lora(tiny("qwen3_5_text"), Lora()).why
    )


@pytest.mark.parametrize(
    "change",
    [
        {"lora.dora": True},
        {"lora.modules_to_save": "lm_head"},
        {"lora.start_from": "first"},
        {"quantise": "4bit", "base_precision": "bf16"},
    ],
)
def test_each_kind_goes_on_bit_for_bit_after_a_pause(tmp_path: Path, spec: RunSpec, change: dict[str, Any]) -> None:
    if "lora.start_from" in change:
        run(tmp_path / "first", spec)
        change = {"lora.start_from": str(tmp_path / "first" / "adapter")}
    held_out = {"data.held_out": str(tmp_path / "held_out.jsonl"), "evaluation.generate": False}
    spec = spec.with_changes({**change, **held_out, "lora.dropout": 0.1})
    run(tmp_path / "whole", spec)
    reported = Report.step

    def step_then_pause(self: Report, progress: Any, **figures: Any) -> None:
        reported(self, progress, **figures)
        if progress.step == 2:
            self._terminated = True

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Report, "step", step_then_pause)
        assert run(tmp_path / "again", spec)[-1]["type"] == "paused"
    assert run(tmp_path / "again", spec)[-1]["type"] == "done"
    assert hashes(tmp_path / "whole") == hashes(tmp_path / "again")


def test_training_goes_on_from_an_adapter_and_says_whose_settings_hold(tmp_path: Path, spec: RunSpec) -> None:
    first = run(tmp_path / "first", spec)
    longer = {"lora.start_from": str(tmp_path / "first" / "adapter"), "lora.rank": 8}
    second = run(tmp_path / "second", spec.with_changes(longer))
    losses = [[event["loss"] for event in events if event["type"] == "step"] for events in (first, second)]
    assert losses[1][0] < losses[0][-1]
    assert any(
        "`lora.rank` 8 is not used: the adapter goes on with its 4." in event.get("message", "") for event in second
    )
    assert saved(tmp_path / "second").keys() == saved(tmp_path / "first").keys()


def test_an_adapter_of_another_model_or_kind_is_refused(tmp_path: Path, spec: RunSpec) -> None:
    run(tmp_path / "run", spec)
    adapter = tmp_path / "run" / "adapter"
    told = json.loads((adapter / "adapter_config.json").read_text())
    for change, said in (
        ({"base_model_name_or_path": "/models/other"}, "was trained on other, and this model is model"),
        ({"peft_type": "LOHA"}, "is LOHA, not LoRA"),
        ({"r": 8}, "does not fit this model"),
        ({"target_modules": ["q_proj"]}, "is on one side only"),
    ):
        other = tmp_path / "other"
        shutil.copytree(adapter, other, dirs_exist_ok=True)
        (other / "adapter_config.json").write_text(json.dumps({**told, **change}))
        with pytest.raises(TrainError) as caught:
            with_lora(load_base(STARTER, torch.float32), Lora(start_from=str(other)))
        assert caught.value.code == "adapter-mismatch" and said in caught.value.message

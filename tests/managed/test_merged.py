"""Merged weights say what base and adapter say, for every kind of adapter, or they are not kept."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from trainer.errors import TrainError
from trainer.evaluation import again
from trainer.evaluation.again import judge_again
from trainer.export import merged
from trainer.export.merged import export_merged
from trainer.loop import train
from trainer.models.loading import load_base
from trainer.models.tokenizer import load_tokenizer
from trainer.operation import Operation, create, read_events
from trainer.spec import RunSpec
from trainer.starter import skills

STARTER = Path(skills.__file__).parent / "model"
Events = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    skills.write(folder, "ticket", training=32, held_out=8)
    return folder


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model whose head is its embeddings, or is not."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = load_tokenizer(STARTER)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), tie_word_embeddings=request.param, eos_token_id=tokenizer.eos_token_id, **shape
        )
    ).save_pretrained(folder)
    return folder


def trained(folder: Path, model: Path, data: Path, **changes: Any) -> Path:
    """The folder of a run whose adapter is far from no change."""
    spec = RunSpec().with_changes(
        {
            "model": str(model),
            "data.train": str(data / "train.jsonl"),
            "training.max_steps": 4,
            "optimizer.learning_rate": 2e-2,
        }
        | changes
    )
    record = {"id": folder.name, "kind": "train", "title": "Tickets", "spec": spec.model_dump(mode="json")}
    create(folder, record)
    with Operation(folder) as operation:
        train(operation, spec)
    assert read_events(folder)[-1]["checked"], "the adapter that was saved should be the one that was trained"
    return folder


def export(run: Path, output: Path, precision: str | None = None) -> Events:
    folder = run.parent / f"export-{output.name}"
    spec = json.loads((run / "operation.json").read_text(encoding="utf-8"))["spec"]
    asked = {
        "run_folder": str(run),
        "spec": spec,
        "adapter": str(run / "adapter"),
        "output": str(output),
        "precision": precision,
    }
    create(folder, {"id": folder.name, "kind": "export", "title": "Merge", **asked})
    with Operation(folder) as operation:
        export_merged(operation)
    return read_events(folder)


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"lora.rslora": True},
    "dora": {"lora.dora": True},
    "head-whole": {"lora.modules_to_save": "lm_head"},
    "embeddings-whole": {"lora.modules_to_save": "embed_tokens"},
    "head-adapted": {"lora.target_modules": "q_proj, lm_head"},
    "embeddings-adapted": {"lora.target_modules": "q_proj, embed_tokens"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_adapter_merges_into_the_same_answers(kind: str, base: Path, data: Path, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", base, data, **KINDS[kind])
    last = export(run, tmp_path / "merged")[-1]
    assert last["type"] == "done" and last["difference"] < 1e-4
    plain = load_base(tmp_path / "merged", torch.float32).eval()
    both = PeftModel.from_pretrained(load_base(base, torch.float32), run / "adapter").eval()
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        logits = [model(input_ids=ids).logits for model in (plain, both, load_base(base, torch.float32).eval())]
    assert torch.allclose(logits[0], logits[1], atol=1e-4)
    assert not torch.allclose(logits[1], logits[2], atol=1e-2), "the adapter should have changed something"


def test_experts_that_are_one_tensor_merge_too(data: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(STARTER)
    tokenizer.save_pretrained(tmp_path / "base")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = MixtralConfig(
        vocab_size=len(tokenizer),
        num_local_experts=4,
        num_key_value_heads=4,
        eos_token_id=tokenizer.eos_token_id,
        **shape,
    )
    MixtralForCausalLM(config).save_pretrained(tmp_path / "base")
    run = trained(tmp_path / "run", tmp_path / "base", data)
    adapted = json.loads((run / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert adapted["target_parameters"], "the experts should have been adapted"
    assert export(run, tmp_path / "merged")[-1]["difference"] < 1e-4


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Path:
    return trained(tmp_path / "run", STARTER, data, **{"data.held_out": str(data / "held_out.jsonl")})


def test_a_merged_folder_is_a_model_like_any_other(run: Path, tmp_path: Path) -> None:
    events = export(run, tmp_path / "out" / "merged", "bf16")
    output = Path(events[-1]["output"])
    names = {file.name for file in output.iterdir()}
    assert names >= {"config.json", "generation_config.json", "chat_template.jinja", "tokenizer.json", "README.md"}
    assert {tensor.dtype for tensor in load_file(output / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((output / "config.json").read_text())["dtype"] == "bfloat16"
    assert (output / "generation_config.json").read_bytes() == (STARTER / "generation_config.json").read_bytes()
    assert 0 < events[-1]["difference"] <= 0.05  # bf16 keeps 8 bits of each weight
    assert "library_name: transformers" in (output / "README.md").read_text(encoding="utf-8")
    assert [event["phase"] for event in events if event["type"] == "phase"] == [
        "model",
        "merging",
        "saving",
        "checking",
    ]
    assert list((tmp_path / "out").iterdir()) == [output]


def test_without_a_precision_the_bases_own_is_kept(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "merged")
    sides = [load_file(folder / "model.safetensors") for folder in (tmp_path / "merged", STARTER)]
    assert sides[0]["model.norm.weight"].dtype == sides[1]["model.norm.weight"].dtype


def test_large_models_come_in_shards(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merged, "SHARD", "2MB")
    export(run, tmp_path / "merged")
    assert len(list((tmp_path / "merged").glob("*.safetensors"))) > 1
    assert (tmp_path / "merged" / "model.safetensors.index.json").is_file()


def test_a_merged_model_that_says_something_else_is_not_kept(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgets(model: PeftModel) -> Any:
        return model.unload()  # the adapter taken off instead of merged

    monkeypatch.setattr(merged, "merge", forgets)
    with pytest.raises(TrainError) as caught:
        export(run, tmp_path / "merged")
    assert caught.value.code == "export-differs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export-merged", "run"]


def test_a_full_disk_leaves_nothing_behind(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(load_tokenizer(STARTER)), "save_pretrained", full)
    with pytest.raises(TrainError) as caught:
        export(run, tmp_path / "merged")
    assert caught.value.code == "disk-full"
    assert not (tmp_path / "merged").exists() and not (tmp_path / "merged.part").exists()


def test_somebody_elses_files_in_the_folder_are_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "thesis.txt").write_text("mine")
    with pytest.raises(TrainError) as caught:
        export(run, tmp_path / "merged")
    assert caught.value.code == "write-failed" and (tmp_path / "merged" / "thesis.txt").read_text() == "mine"


def test_want_of_memory_is_said_before_anything_is_loaded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = SimpleNamespace(available=1_000_000, total=1_000_000)
    monkeypatch.setattr(merged.psutil, "virtual_memory", lambda: little)
    with pytest.raises(TrainError) as caught:
        export(run, tmp_path / "merged")
    assert caught.value.code == "out-of-memory" and "0.0 GB are free" in caught.value.message


def judged(run: Path, data: str | None, rows: int | None = None) -> Events:
    folder = run.parent / "judged"
    record = json.loads((run / "operation.json").read_text(encoding="utf-8"))
    asked = {"spec": record["spec"], "adapter": str(run / "adapter"), "data": data, "rows": rows}
    create(folder, {"id": "judged", "kind": "evaluate", "title": "Judge", **asked})
    with Operation(folder) as operation:
        judge_again(operation)
    return read_events(folder)


def test_judging_again_gives_what_the_run_was_judged_by(run: Path) -> None:
    first = next(event for event in read_events(run) if event.get("side") == "comparison")
    events = judged(run, None)
    second = next(event for event in events if event.get("side") == "comparison")
    assert events[-1]["type"] == "done" and second["verdict"] == first["verdict"]
    assert second["measures"] == [
        {key: pytest.approx(value) if isinstance(value, dict) else value for key, value in measure.items()}
        for measure in first["measures"]
    ]
    assert (run.parent / "judged" / "evaluation.json").is_file()


def test_other_rows_are_read_like_the_runs_own(run: Path, data: Path) -> None:
    events = judged(run, str(data / "train.jsonl"), rows=5)
    assert next(event for event in events if event.get("side") == "comparison")["rows"] == 5


def test_without_held_out_rows_a_file_has_to_be_named(tmp_path: Path, data: Path) -> None:
    run = trained(tmp_path / "run", STARTER, data)
    with pytest.raises(TrainError) as caught:
        again.rows_to_judge(RunSpec().with_changes({"data.train": str(data / "train.jsonl")}).data, None)
    assert caught.value.code == "held-out-missing" and (run / "adapter").is_dir()

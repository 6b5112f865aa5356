"""In which precision a run computes, and that bf16 holds its weights as they are stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from test_settings import run
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer import device
from trainer.device import choose_precision
from trainer.needs import bf16_is_exact
from trainer.spec import RunSpec
from trainer.starter import skills

STARTER = Path(skills.__file__).parent / "model"


@pytest.fixture
def in_bf16(tmp_path: Path) -> Path:
    """The starter, stored in bf16."""
    folder = tmp_path / "model"
    AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(STARTER).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("able", [True, False])
def test_a_processor_computes_in_bf16_only_where_that_rounds_no_weight(
    able: bool, in_bf16: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "cpu_computes_bf16", lambda: able)
    stored = {str(in_bf16): True, str(STARTER): False}
    for model, exact in stored.items():
        spec = RunSpec().with_changes({"model": model})
        assert bf16_is_exact(spec) == exact
        assert not bf16_is_exact(spec.with_changes({"quantise": "4bit"}))
        precision, why = choose_precision("auto", "cpu", bf16_is_exact=exact)
        assert precision == ("bf16" if able and exact else "fp32") and why.startswith(precision)
        assert choose_precision("fp32", "cpu", bf16_is_exact=exact)[0] == "fp32"


def test_older_configs_name_the_precision_otherwise(in_bf16: Path) -> None:
    config = json.loads((in_bf16 / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")
    (in_bf16 / "config.json").write_text(json.dumps(config))
    assert bf16_is_exact(RunSpec().with_changes({"model": str(in_bf16)}))


def test_a_model_stored_in_bf16_is_trained_in_it_and_its_adapter_reads_back(
    in_bf16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "cpu_computes_bf16", lambda: True)
    skills.write(tmp_path, "ticket", training=32, held_out=2)
    changes = {
        "model": str(in_bf16),
        "data.train": str(tmp_path / "train.jsonl"),
        "training.max_steps": 2,
        "lora.rank": 4,
    }
    events = run(tmp_path / "run", RunSpec().with_changes(changes))
    chosen = {name: why for event in events for name, why in event.get("chosen", {}).items()}
    assert chosen["precision"].startswith("bf16: the model is stored in it") and chosen["base"].startswith(
        "base in bf16"
    )
    assert events[-1]["type"] == "done"

"""Rows with pictures laid end to end give the loss and the gradients of padded ones, wherever a family allows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from seeing import FAMILIES, make
from test_seeing_runs import rows

from trainer.data.batches import Batch, collate
from trainer.data.masks import encode
from trainer.data.reading import read_samples
from trainer.models.adapting import with_lora
from trainer.models.loading import load_base
from trainer.models.tokenizer import load_tokenizer
from trainer.portions import Portions
from trainer.snapshot import Progress
from trainer.spec import Data, Lora, Training
from trainer.speed.choice import Way, choose_way
from trainer.speed.padded import Padded
from trainer.vision.sight import Sight

PADDED = "gemma3"  # in whose pictures every token sees every other


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def adapted(folder: Path, targets: str) -> Any:
    model = with_lora(load_base(folder, torch.float32), Lora(rank=4, target_modules=targets)).model
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    return model


def gradients(model: Any, way: Way, batch: Batch) -> tuple[torch.Tensor, list[torch.Tensor]]:
    with way.in_use():
        loss = way.loss(batch, 0.0)
        loss.backward()
    found = [weight.grad.clone() for weight in model.parameters() if weight.requires_grad]
    model.zero_grad(set_to_none=True)
    return loss.detach(), found


@pytest.mark.parametrize("targets", ["all-linear", "all-linear, projector, vision"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_end_to_end_learn_the_same(tmp_path: Path, family: str, targets: str) -> None:
    folder = make(tmp_path / family, family)
    tokenizer = load_tokenizer(folder)
    samples = read_samples(Data(train=str(rows(tmp_path / "data", 6)))).train
    examples = encode(tokenizer, samples, Data(), Sight.of(folder, tokenizer))
    model = adapted(folder, targets)
    batch = collate(examples, tokenizer.pad_token_id)
    loss, wanted = gradients(model, Padded(model), batch)

    way, why = choose_way(model, examples, tokenizer.pad_token_id, Training())
    assert why["rows"].startswith("padded" if family == PADDED else "rows end to end"), why["rows"]
    found_loss, found = gradients(model, way, batch)
    torch.testing.assert_close(found_loss, loss, rtol=1e-5, atol=1e-6)
    largest = max(float(each.abs().max()) for each in wanted)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * largest)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "gemma3"])
def test_a_step_in_smaller_portions_has_the_same_gradient(tmp_path: Path, family: str) -> None:
    """As after memory ran out: each portion has the pictures of its own rows."""
    folder = make(tmp_path / family, family)
    tokenizer = load_tokenizer(folder)
    samples = read_samples(Data(train=str(rows(tmp_path / "data", 6)))).train
    examples = encode(tokenizer, samples, Data(), Sight.of(folder, tokenizer))
    model, batch = adapted(folder, "all-linear"), collate(examples, tokenizer.pad_token_id)
    way, _ = choose_way(model, examples, tokenizer.pad_token_id, Training())
    portions, found = Portions(Accelerator(cpu=True), model, "off", 0.0, print, way), []
    for most in (None, 3):
        portions.forward_and_backward([batch], Progress(micro_batch=most))
        found.append([weight.grad.clone() for weight in model.parameters() if weight.requires_grad])
        model.zero_grad(set_to_none=True)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)

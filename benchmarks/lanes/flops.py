"""Count the operations of Fettle's own steps, and those of the least that LoRA needs.

For a real token that is 4 for each weight of the layers (their frozen weights need no gradient), 4 for each of the head's
where the token is scored, 6 for each of the adapter's, and attention to the tokens before it, thrice: forward, and twice backward.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

sys.path.insert(0, str(Path(__file__).parents[2]))

from trainer.data.batches import Batch, collate, epoch_order, row_lengths
from trainer.data.masks import encode
from trainer.data.reading import read_samples
from trainer.device import choose_base_precision, choose_precision
from trainer.models.adapting import with_lora
from trainer.models.loading import DTYPES, load_base
from trainer.models.tokenizer import load_tokenizer
from trainer.needs import bf16_is_exact
from trainer.spec import RunSpec
from trainer.speed.choice import choose_way

STEPS = 8


def of_cpu_attention(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    """Torch counts its attention on GPUs only."""
    return int(sdpa_flop_count(q, k, v))


def of_cpu_attention_backward(g: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(g, q, k, v))


def of_product_in_place(_: Any, a: Any, b: Any, **__: Any) -> int:
    """Torch counts none that are added in place."""
    return int(2 * a[0] * a[1] * b[1])


def floor(model: Any, batch: Batch) -> float:
    """The least operations for one batch."""
    config = model.config
    adapter = sum(each.numel() for each in model.parameters() if each.requires_grad)
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    head = model.get_output_embeddings().weight.numel()
    layers = sum(module.weight.numel() for module in linear) - head - adapter
    # Scores and their product with the values, 2 operations each, for every pair of a token and one not after it.
    pairs = sum(length * (length + 1) / 2 for length in batch.attention_mask.sum(1).tolist())
    attention = 3 * 4 * pairs * config.num_hidden_layers * config.num_attention_heads * head_size(config)
    return batch.tokens * (4 * layers + 6 * adapter) + batch.scored * 4 * head + attention


def head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def main(job: dict[str, Any]) -> None:
    wanted = {
        "model": job["model"], "data.train": job["train"], "data.max_length": 1024, "lora.rank": job["rank"], "lora.alpha": 2 * job["rank"],
        "training.batch_size": job["batch"],
    }  # fmt: skip
    spec = RunSpec().with_changes(wanted)
    tokenizer = load_tokenizer(Path(spec.model))
    examples = encode(tokenizer, read_samples(spec.data).train, spec.data)
    products, _ = choose_precision("auto", "cpu", bf16_is_exact=bf16_is_exact(spec))
    precision, _ = choose_base_precision("auto", products)
    model = with_lora(load_base(Path(spec.model), DTYPES[precision]), spec.lora).model
    way, why = choose_way(model, examples, tokenizer.pad_token_id, spec.training)
    model.train()
    order = epoch_order(row_lengths(examples), job["batch"], job["seed"], epoch=0, by_length=False)[:STEPS]
    batches = [collate([examples[row] for row in rows], tokenizer.pad_token_id) for rows in order]
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    own = {
        attention: of_cpu_attention,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: of_cpu_attention_backward,
        torch.ops.aten.addmm_: of_product_in_place,
    }
    with FlopCounterMode(display=False, custom_mapping=own) as counter, way.in_use():
        for batch in batches:
            way.loss(batch, 0.0).backward()
    print(
        json.dumps(
            {
                "counted": counter.get_total_flops(), "floor": sum(floor(model, batch) for batch in batches), "steps": len(batches),
                "tokens": sum(batch.tokens for batch in batches), "of": f"in {precision}, {why.get('rows', 'padded')}",
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

"""Judge an adapter by the loss of held-out answers: fp32, padded, transformers and PEFT as they come."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


@torch.inference_mode()
def held_out_loss(model: Any, tokenizer: Any, rows: Path) -> float:
    """Mean cross-entropy over the answers' tokens, in nats."""
    total, scored = 0.0, 0
    model.eval()
    for line in rows.read_text(encoding="utf-8").splitlines():
        content = json.loads(line)
        whole = tokenizer.apply_chat_template(
            content["prompt"] + content["completion"], tokenize=True, return_dict=False
        )
        asked = tokenizer.apply_chat_template(
            content["prompt"], tokenize=True, add_generation_prompt=True, return_dict=False
        )
        labels = torch.tensor([[-100] * len(asked) + whole[len(asked) :]])
        count = len(whole) - len(asked)
        total += model(input_ids=torch.tensor([whole]), labels=labels).loss.item() * count
        scored += count
    return total / scored


def main(job: dict[str, Any]) -> None:
    base = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    model = PeftModel.from_pretrained(base, job["adapter"])
    print(json.dumps({"loss": held_out_loss(model, AutoTokenizer.from_pretrained(job["model"]), Path(job["rows"]))}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

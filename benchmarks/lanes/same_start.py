"""An adapter that has learned nothing, and the rows in Fettle's order: from both, others can compute what it computes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from work import ids

sys.path.insert(0, str(Path(__file__).parents[2]))

from trainer.data.batches import epoch_order


def main(job: dict[str, Any]) -> None:
    lines = Path(job["train"]).read_text(encoding="utf-8").splitlines()
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    order = epoch_order(
        [len(ids(tokenizer, line)) for line in lines], job["batch"], job["seed"], epoch=0, by_length=False
    )
    Path(job["ordered"]).write_text("".join(lines[row] + "\n" for batch in order for row in batch), encoding="utf-8")
    torch.manual_seed(job["seed"])
    base = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    lora = LoraConfig(r=job["rank"], lora_alpha=2 * job["rank"], target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(base, lora).save_pretrained(job["fresh"])
    print(json.dumps({"rows": len(lines)}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

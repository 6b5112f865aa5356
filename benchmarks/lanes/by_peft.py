"""PEFT with transformers' Trainer: as it comes (`peft`) and with the best of its settings (`peft-tuned`)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    DataCollatorWithFlattening,
    Trainer,
    TrainingArguments,
)
from watch import Watch, use_threads


def encoded(tokenizer: Any, line: str) -> dict[str, list[int]]:
    """A row as the Trainer takes it, labels on the answer."""
    content = json.loads(line)
    whole = tokenizer.apply_chat_template(content["prompt"] + content["completion"], tokenize=True, return_dict=False)
    asked = tokenizer.apply_chat_template(
        content["prompt"], tokenize=True, add_generation_prompt=True, return_dict=False
    )
    return {"input_ids": whole, "attention_mask": [1] * len(whole), "labels": [-100] * len(asked) + whole[len(asked) :]}


def main(job: dict[str, Any]) -> None:
    use_threads(job)
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    rows = [encoded(tokenizer, line) for line in Path(job["train"]).read_text(encoding="utf-8").splitlines()]
    tuned = job["lane"] == "peft-tuned"
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.bfloat16 if tuned else "auto")
    lora = LoraConfig(r=job["rank"], lora_alpha=2 * job["rank"], target_modules="all-linear", task_type="CAUSAL_LM")
    settings = TrainingArguments(
        output_dir=job["output"], per_device_train_batch_size=job["batch"], num_train_epochs=1, learning_rate=job["rate"],
        use_cpu=not torch.cuda.is_available(), report_to="none", seed=job["seed"], save_strategy="no",
    )  # fmt: skip
    watch = Watch(tokenizer.pad_token_id)
    # Rows end to end took 22 s of processor time at 6M, rows of about equal length together, with padding, 27 s.
    collator = DataCollatorWithFlattening() if tuned else DataCollatorForSeq2Seq(tokenizer, padding=True)
    trainer = Trainer(
        get_peft_model(model, lora), settings, train_dataset=rows, data_collator=collator, callbacks=[watch]
    )
    watch.look_at(trainer)
    trainer.train()
    trainer.model.save_pretrained(job["output"])
    print(json.dumps({"adapter": job["output"], **watch.told()}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

"""TRL's SFTTrainer: as it comes (`trl`), with the best of its settings (`trl-tuned`), packed (`trl-packed`)."""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer
from watch import Watch


def main(job: dict[str, Any]) -> None:
    rows = load_dataset("json", data_files=job["train"], split="train", cache_dir=job["folder"])
    rows = rows.select(range(int(len(rows) * job.get("share", 1))))
    better: dict[str, Any] = (
        {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"} if job["lane"] != "trl" else {}
    )
    if job["lane"] == "trl-packed":
        better = {"gradient_checkpointing": False, "packing": True}
    settings = SFTConfig(
        output_dir=job["output"], per_device_train_batch_size=job["batch"], num_train_epochs=1, learning_rate=job["rate"],
        use_cpu=not torch.cuda.is_available(), report_to="none", seed=job["seed"], save_strategy="no", **better,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    dtype = torch.bfloat16 if better else torch.float32
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype)
    lora = LoraConfig(r=job["rank"], lora_alpha=2 * job["rank"], target_modules="all-linear", task_type="CAUSAL_LM")
    watch = Watch(tokenizer.pad_token_id, count_padding=job.get("count_padding", False))
    trainer = SFTTrainer(
        model, args=settings, train_dataset=rows, processing_class=tokenizer, peft_config=lora, callbacks=[watch]
    )
    watch.look_at(trainer)
    trainer.train()
    trainer.save_model(job["output"])
    print(json.dumps({"adapter": job["output"], **watch.told()}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

"""TRL's SFTTrainer: as it comes (`trl`), with the best of its settings (`trl-tuned`), packed (`trl-packed`).

`trl-ordered` is `trl` with the rows in the order of the file; `trl-same` computes what Fettle computes in fp32: rows in
the file's order, no recomputation, and a given adapter to start from.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from datasets import load_dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer
from watch import Watch, use_threads

IN_ORDER = {"train_sampling_strategy": "sequential"}


def settings_of(job: dict[str, Any]) -> dict[str, Any]:
    """What the lane changes in TRL's defaults."""
    return {
        "trl": {},
        "trl-ordered": IN_ORDER,
        "trl-same": {"gradient_checkpointing": False, "bf16": False, **IN_ORDER},
        # Without padding it was faster than with rows of about equal length together, 27 s of processor time to 37 s at 6M.
        "trl-tuned": {"gradient_checkpointing": False, "padding_free": True, "max_length": None},
        # One packed row holds as many tokens as a batch of the others, so that the steps stay as many.
        "trl-packed": {
            "gradient_checkpointing": False, "packing": True, "per_device_train_batch_size": 1,
            "max_length": job["tokens_a_step"] * 21 // 20,
        },
    }[job["lane"]]  # fmt: skip


def main(job: dict[str, Any]) -> None:
    use_threads(job)
    rows = load_dataset("json", data_files=job["train"], split="train", cache_dir=job["cache"])
    rows = rows.select(range(int(len(rows) * job.get("share", 1))))
    ordinary = {
        "output_dir": job["output"], "per_device_train_batch_size": job["batch"], "num_train_epochs": 1,
        "learning_rate": job["rate"], "use_cpu": not torch.cuda.is_available(), "report_to": "none", "seed": job["seed"],
        "save_strategy": "no",
    }  # fmt: skip
    settings = SFTConfig(**(ordinary | settings_of(job)))
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    dtype = torch.bfloat16 if job["lane"] in ("trl-tuned", "trl-packed") else torch.float32
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype)
    lora = LoraConfig(r=job["rank"], lora_alpha=2 * job["rank"], target_modules="all-linear", task_type="CAUSAL_LM")
    if job.get("start_from"):
        model, lora = PeftModel.from_pretrained(model, job["start_from"], is_trainable=True), None
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

"""Unsloth's FastLanguageModel with TRL: as it comes (`unsloth`) and with the best of its settings (`unsloth-tuned`).

On a CPU it loads in bf16 by itself where the processor has it, and turns packing and padding-free batches off. Its
compilation (`UNSLOTH_CPU_COMPILE`) takes longer than a run of this length and stays off.
"""

from __future__ import annotations

import json
import sys
from typing import Any

# It changes the other packages while it is imported, so it has to come before them.
from unsloth import FastLanguageModel  # isort: skip
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer
from watch import Watch, use_threads


def main(job: dict[str, Any]) -> None:
    use_threads(job)
    tuned = job["lane"] == "unsloth-tuned"
    rows = load_dataset("json", data_files=job["train"], split="train", cache_dir=job["cache"])
    model, tokenizer = FastLanguageModel.from_pretrained(job["model"], max_seq_length=1024, load_in_4bit=False)
    model = FastLanguageModel.get_peft_model(
        model, r=job["rank"], lora_alpha=2 * job["rank"], random_state=job["seed"],
        **({"use_gradient_checkpointing": False} if tuned else {}),
    )  # fmt: skip
    better: dict[str, Any] = (
        {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"} if tuned else {}
    )
    settings = SFTConfig(
        output_dir=job["output"], per_device_train_batch_size=job["batch"], num_train_epochs=1, learning_rate=job["rate"],
        report_to="none", seed=job["seed"], save_strategy="no", **better,
    )  # fmt: skip
    watch = Watch(tokenizer.pad_token_id)
    trainer = SFTTrainer(model, args=settings, train_dataset=rows, processing_class=tokenizer, callbacks=[watch])
    watch.look_at(trainer)
    trainer.train()
    model.save_pretrained(job["output"])
    print(json.dumps({"adapter": job["output"], **watch.told()}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

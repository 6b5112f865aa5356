"""TRL's SFTTrainer with its collator for pictures: as it comes (`vision-trl`), with the best of its settings (`vision-trl-tuned`)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Image, List, load_dataset
from peft import LoraConfig
from processing import processor_of
from transformers import AutoModelForImageTextToText
from trl import SFTConfig, SFTTrainer
from watch import Watch, use_threads

SETTINGS: dict[str, dict[str, Any]] = {"vision-trl": {}, "vision-trl-tuned": {"gradient_checkpointing": False}}
LANGUAGE_MODEL = (
    r".*text_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"  # where Fettle's adapter lies
)


def main(job: dict[str, Any]) -> None:
    use_threads(job)
    folder = Path(job["train"]).parent
    rows = load_dataset("json", data_files=job["train"], split="train", cache_dir=job["cache"])
    rows = rows.select(range(int(len(rows) * job.get("share", 1))))
    rows = rows.map(lambda row: {"images": [str(folder / each) for each in row["images"]]})
    rows = rows.cast_column("images", List(Image()))
    settings = SFTConfig(
        output_dir=job["output"], per_device_train_batch_size=job["batch"], num_train_epochs=1, learning_rate=job["rate"],
        use_cpu=not torch.cuda.is_available(), report_to="none", seed=job["seed"], save_strategy="no", max_length=None,
        **SETTINGS[job["lane"]],
    )  # fmt: skip
    processor = processor_of(Path(job["model"]))
    dtype = torch.bfloat16 if job["lane"].endswith("tuned") else torch.float32
    model = AutoModelForImageTextToText.from_pretrained(job["model"], dtype=dtype)
    lora = LoraConfig(r=job["rank"], lora_alpha=2 * job["rank"], target_modules=LANGUAGE_MODEL, task_type="CAUSAL_LM")
    watch = Watch(processor.tokenizer.pad_token_id, count_padding=job.get("count_padding", False))
    trainer = SFTTrainer(
        model, args=settings, train_dataset=rows, processing_class=processor, peft_config=lora, callbacks=[watch]
    )
    watch.look_at(trainer)
    trainer.train()
    trainer.save_model(job["output"])
    print(json.dumps({"adapter": job["output"], **watch.told()}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

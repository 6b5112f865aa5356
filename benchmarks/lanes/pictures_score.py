"""Judge an adapter by the loss of held-out answers about pictures: fp32, one row at a time, transformers and PEFT alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from PIL import Image
from processing import processor_of
from transformers import AutoModelForImageTextToText


@torch.inference_mode()
def held_out_loss(model: Path, adapter: Path | None, rows: Path, *, count_only: bool = False) -> tuple[float, int]:
    """Mean cross-entropy over the answers' tokens in nats, and the number of all tokens."""
    processor = processor_of(model)
    judged: Any = None if count_only else AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32)
    if adapter:
        judged = PeftModel.from_pretrained(judged, adapter)
    total, scored, tokens = 0.0, 0, 0
    for line in rows.read_text(encoding="utf-8").splitlines():
        content = json.loads(line)
        pictures = [Image.open(rows.parent / each) for each in content["images"]]
        asked, whole = (
            processor(
                text=processor.apply_chat_template(turns, add_generation_prompt=more),
                images=pictures,
                return_tensors="pt",
            )
            for turns, more in ((content["prompt"], True), (content["prompt"] + content["completion"], False))
        )
        count = whole["input_ids"].shape[1] - asked["input_ids"].shape[1]
        tokens += whole["input_ids"].shape[1]
        if judged is not None:
            labels = whole["input_ids"].clone()
            labels[:, :-count] = -100
            total += judged(**whole, labels=labels).loss.item() * count
            scored += count
    return (total / scored if scored else 0.0), tokens


def main(job: dict[str, Any]) -> None:
    loss, _ = held_out_loss(Path(job["model"]), Path(job["adapter"]), Path(job["rows"]))
    print(json.dumps({"loss": loss}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

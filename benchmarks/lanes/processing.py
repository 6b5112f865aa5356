"""The family's own processor, which all lanes are given: torchvision, which it would want, has no build beside a CPU's torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[2]))

from trainer.vision.processor import Processor


def processor_of(model: Path) -> Any:
    """transformers' Idefics3Processor, by whose rules SmolVLM writes pictures too."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    whole = Processor.load(model, tokenizer)._parts
    whole.chat_template = tokenizer.chat_template
    return whole

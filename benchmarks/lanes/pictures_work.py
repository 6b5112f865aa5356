"""Make a SmolVLM of a shape, pictures of coloured squares in noise, and rows that ask for their order."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
from pictures_score import held_out_loss
from PIL import Image
from transformers import AutoTokenizer, SmolVLMConfig, SmolVLMForConditionalGeneration
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

STARTER = Path(__file__).parents[2] / "trainer" / "starter" / "model"
TOKENS = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}"
    "{% endif %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Of each shape the language model, the tower, the pixels of a picture's side, and how many patches become one token.
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "text": dict(vocab_size=8192, hidden_size=256, intermediate_size=704, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=4),
        "tower": dict(hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4, patch_size=16),
        "side": 128, "merged": 2,
    },
    "250M": {
        "text": dict(vocab_size=49280, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3),
        "tower": dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, patch_size=16),
        "side": 512, "merged": 4,
    },
}  # fmt: skip
COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 70, 210),
    "yellow": (230, 200, 40),
    "white": (245, 245, 245),
}
HELD_OUT, PIXELS, PICTURES = 64, 640, "pictures"


def main(job: dict[str, Any]) -> None:
    folder, shape = Path(job["folder"]), SHAPES[job["shape"]]
    make_model(folder / "model", shape)
    chance, tokens = random.Random(0), 0
    (folder / PICTURES).mkdir(exist_ok=True)
    for name, count in (("train", job["rows"]), ("held_out", HELD_OUT)):
        rows = [row(chance, folder, f"{PICTURES}/{name}-{number}.jpg") for number in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    loss, _ = held_out_loss(folder / "model", None, folder / "held_out.jsonl")
    _, tokens = held_out_loss(folder / "model", None, folder / "train.jsonl", count_only=True)
    told = {"tokens": tokens, "base_loss": loss}
    (folder / "work.json").write_text(json.dumps(told))
    print(json.dumps(told))


def make_model(folder: Path, shape: dict[str, Any]) -> None:
    """Random weights in bf16, as most published models are stored, with tokenizer, template and processor."""
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    tokenizer.add_tokens(TOKENS, special_tokens=True)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = SmolVLMConfig(
        text_config={"model_type": "llama", "max_position_embeddings": 2048, "pad_token_id": 0, **shape["text"]},
        vision_config={"model_type": "smolvlm_vision", "image_size": shape["side"], **shape["tower"]},
        scale_factor=shape["merged"], image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        eos_token_id=tokenizer.eos_token_id, pad_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    SmolVLMForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(folder)
    side = {"longest_edge": shape["side"]}
    SmolVLMImageProcessorPil(size=side, max_image_size=side, do_image_splitting=False).save_pretrained(folder)
    places = (shape["side"] // shape["tower"]["patch_size"] // shape["merged"]) ** 2
    (folder / "processor_config.json").write_text(json.dumps({"image_seq_len": places}), encoding="utf-8")


def row(chance: random.Random, folder: Path, file: str) -> dict[str, Any]:
    """A photograph's worth of noise with some squares from left to right, and their colours."""
    names = chance.choices(list(COLOURS), k=chance.randint(2, 12))
    noise = Image.frombytes("RGB", (PIXELS // 8, PIXELS // 8), chance.randbytes(3 * (PIXELS // 8) ** 2))
    image = noise.resize((PIXELS, PIXELS))
    wide = PIXELS // len(names)
    for number, name in enumerate(names):
        image.paste(COLOURS[name], (number * wide + 4, 220, (number + 1) * wide - 4, 420))
    image.save(folder / file, quality=90)
    asked = {
        "role": "user",
        "content": [{"type": "image"}, {"type": "text", "text": "Which colours are there, from left to right?"}],
    }
    said = {"role": "assistant", "content": [{"type": "text", "text": ", ".join(names)}]}
    return {"prompt": [asked], "completion": [said], "images": [file]}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

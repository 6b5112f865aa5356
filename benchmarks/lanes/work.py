"""Make a model of a shape, and rows: half the words of an answer are taken from its question.

Lengths are natural; of a shape whose name ends with EVEN, all rows have the same number of tokens.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import torch
from score import held_out_loss
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

STARTER = Path(__file__).parents[2] / "trainer" / "starter" / "model"
SHAPES = {
    "6M": dict(vocab_size=8192, hidden_size=256, intermediate_size=704, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=4),
    "135M": dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3),
}  # fmt: skip
WORDS, HELD_OUT, LONGEST = 400, 64, 900
EVEN, EVEN_WORDS, EVEN_TOKENS = "-even", 34, 96


def main(job: dict[str, object]) -> None:
    folder, shape = Path(str(job["folder"])), str(job["shape"])
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    tokenizer.save_pretrained(folder / "model")
    torch.manual_seed(0)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    model = LlamaForCausalLM(
        LlamaConfig(**SHAPES[shape.removesuffix(EVEN)], **ends, tie_word_embeddings=True, max_position_embeddings=2048)
    )
    model.to(torch.bfloat16).save_pretrained(folder / "model")  # as most published models are
    model.float()
    chance = random.Random(0)
    words = [
        "".join(chance.choices("bdfgklmnprstvz", k=1) + chance.choices("aeiou", k=1) + chance.choices("lnrst", k=1))
        for _ in range(WORDS)
    ]
    for name, count in (("train", int(str(job["rows"]))), ("held_out", HELD_OUT)):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as out:
            while count:
                line = json.dumps(row(chance, words, EVEN_WORDS if shape.endswith(EVEN) else natural_length(chance)))
                if not shape.endswith(EVEN) or len(ids(tokenizer, line)) == EVEN_TOKENS:
                    out.write(line + "\n")
                    count -= 1
    tokens = sum(len(ids(tokenizer, line)) for line in (folder / "train.jsonl").read_text().splitlines())
    told = {"tokens": tokens, "base_loss": held_out_loss(model, tokenizer, folder / "held_out.jsonl")}
    (folder / "work.json").write_text(json.dumps(told))
    print(json.dumps(told))


def natural_length(chance: random.Random) -> int:
    """Words of a row: log-normal, with a median of about ninety tokens."""
    return max(4, min(LONGEST // 3, int(chance.lognormvariate(3.2, 0.8))))


def row(chance: random.Random, words: list[str], length: int) -> dict[str, list[dict[str, str]]]:
    """A question and its answer of so many words together, words by Zipf's law."""
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    asked = chance.choices(words, weights, k=max(2, length // 2))
    said = [
        chance.choice(asked) if chance.random() < 0.5 else chance.choices(words, weights)[0] for _ in range(length // 2)
    ]
    return {
        "prompt": [{"role": "user", "content": " ".join(asked)}],
        "completion": [{"role": "assistant", "content": " ".join(said)}],
    }


def ids(tokenizer: object, line: str) -> list[int]:
    """A row's tokens."""
    content = json.loads(line)
    turns = content["prompt"] + content["completion"]
    return tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)  # type: ignore[attr-defined,no-any-return]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

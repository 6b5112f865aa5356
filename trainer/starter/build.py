"""Build the starter model from nothing: tokenizer, pre-training, `model/` with safetensors, and the bundled data.

    python -m trainer.starter.build OUTPUT [--tokens 9000000] [--threads 2]

Runs in a managed environment; needs no network. About ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trainer.starter import skills
from trainer.starter.corpus import Turns, conversations

VOCABULARY = 1024
CONTEXT = 512
ROW = 256  # tokens in one pre-training row
BATCH = 16  # rows in one step
SPECIAL = ["<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{{ bos_token }}"
    "{%- for message in messages -%}"
    "{%- if message.role == 'assistant' -%}"
    "<|assistant|>{% generation %}{{ message.content }}<|end|>{% endgeneration %}"
    "{%- else -%}"
    "{{ '<|' + message.role + '|>' + message.content + '<|end|>' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE in which a word has the same tokens wherever it stands.

    Spaces, digits and signs are tokens of their own, so that copying a name or a number is copying tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    pieces = pre_tokenizers.Split(Regex(r"\p{L}+|\p{N}|\s|[^\p{L}\p{N}\s]"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    texts = (f"{q}\n{a}" for turns in islice(conversations(seed=1), 30_000) for q, a in turns)
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = TEMPLATE
    return fast


def build_model(vocabulary: int) -> LlamaForCausalLM:
    """A Llama of about one million parameters with random weights."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    # Tied embeddings of unit length: with the usual 0.02 the logits stay too small to be sure of a token.
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=config.hidden_size**-0.5)
    return model


def encode(tokenizer: PreTrainedTokenizerFast, turns: list[Turns]) -> list[tuple[list[int], list[bool]]]:
    """Token ids of each conversation, and which of them are the assistant's (the ones that are scored)."""
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    user, assistant = tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>"])
    flat = [text for conversation in turns for turn in conversation for text in turn]
    ids = iter(tokenizer(flat, add_special_tokens=False)["input_ids"])
    rows = []
    for conversation in turns:
        tokens, scored = [begin], [False]
        for _ in conversation:
            question, answer = next(ids), next(ids)
            tokens += [user, *question, end, assistant, *answer, end]
            scored += [False] * (len(question) + 3) + [True] * (len(answer) + 1)
        rows.append((tokens, scored))
    return rows


def packed_batches(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (ids, labels) of shape [BATCH, ROW]: whole conversations, first fit into rows, the rest padding."""
    stream = conversations(seed)
    while True:
        rows: list[tuple[list[int], list[int]]] = []
        open_rows: list[int] = []
        for tokens, scored in sorted(encode(tokenizer, list(islice(stream, 4000))), key=lambda r: -len(r[0])):
            if len(tokens) > ROW:
                continue
            labels = [t if s else -100 for t, s in zip(tokens, scored, strict=True)]
            fit = next((i for i in open_rows if len(rows[i][0]) + len(tokens) <= ROW), None)
            if fit is None:
                rows.append(([], []))
                fit = len(rows) - 1
                open_rows = [i for i in open_rows if len(rows[i][0]) < ROW - 8] + [fit]
            rows[fit][0].extend(tokens)
            rows[fit][1].extend(labels)
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        for start in range(0, len(rows) - BATCH + 1, BATCH):
            chosen = [rows[int(i)] for i in order[start : start + BATCH]]
            ids = torch.tensor([t + [0] * (ROW - len(t)) for t, _ in chosen])
            labels = torch.tensor([y + [-100] * (ROW - len(y)) for _, y in chosen])
            yield ids, labels


def scored_loss(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over scored positions; the head sees those positions only."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    target = labels[:, 1:]
    keep = target != -100
    logits = model.lm_head(hidden[keep])
    return torch.nn.functional.cross_entropy(logits.float(), target[keep])


def optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embeddings and norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=4e-3, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=4e-3, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def rate(step: int) -> float:
    """Multiplier of the peak rate: 100 steps up, then flat to the end.

    Not annealed on purpose: that lowers the loss and makes the base harder to teach (docs/decisions).
    """
    return min(1.0, (step + 1) / 100)


def pretrain(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tokens: int, output: Path) -> None:
    """Train in place for about `tokens` tokens, saving every 2000 steps."""
    steps = tokens // (BATCH * ROW)
    trained = optimizers(model)
    peaks = [group["lr"] for optimizer in trained for group in optimizer.param_groups]
    started, smooth = time.monotonic(), 0.0
    for step, (ids, labels) in enumerate(islice(packed_batches(tokenizer, seed=2), steps)):
        for optimizer, peak in zip(trained, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate(step)
        with torch.autocast("cpu", torch.bfloat16):
            loss = scored_loss(model, ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in trained:
            optimizer.step()
            optimizer.zero_grad()
        smooth = loss.item() if step == 0 else 0.98 * smooth + 0.02 * loss.item()
        if step % 100 == 0:
            speed = (step + 1) * BATCH * ROW / (time.monotonic() - started)
            print(
                json.dumps({"step": step, "of": steps, "loss": round(smooth, 4), "tokens_per_second": round(speed)}),
                flush=True,
            )
        if step % 2000 == 1999:
            model.save_pretrained(output)
    model.save_pretrained(output)


def main() -> None:
    """Command line of the build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--tokens", type=int, default=9_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = build_tokenizer()
    model = build_model(len(tokenizer))
    tokenizer.save_pretrained(options.output / "model")
    for skill in ("ticket", "calendar"):
        skills.write(options.output / "data" / skill, skill)
    pretrain(model, tokenizer, options.tokens, options.output / "model")


if __name__ == "__main__":
    main()

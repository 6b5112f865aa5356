"""Tiny random models of each family that sees, whole with tokenizer, template and processor, made on the spot."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

from trainer.starter import skills

STARTER = Path(skills.__file__).parent / "model"
TEXT = {
    "vocab_size": 2048, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 1024, "pad_token_id": 0,
}  # fmt: skip
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
CLIP = {**TOWER, "image_size": 28, "patch_size": 14, "projection_dim": 32}
SIGLIP = {**TOWER, "image_size": 28, "patch_size": 7}
ROPE = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
QWEN2 = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14}
QWEN25 = {
    "depth": 2,
    "hidden_size": 32,
    "out_hidden_size": 64,
    "num_heads": 2,
    "intermediate_size": 64,
    "fullatt_block_indexes": [1],
    "window_size": 56,
}
QWEN3 = {"depth": 2, "hidden_size": 32, "out_hidden_size": 64, "num_heads": 2, "intermediate_size": 64, "deepstack_visual_indexes": [0], "patch_size": 14, "num_position_embeddings": 16}  # fmt: skip

# Of each family: the sizes of its model, its picture part, what its processor is told, and its tokens by name.
FAMILIES: dict[str, dict[str, Any]] = {
    "llava": {
        "config": {"text_config": {"model_type": "llama", **TEXT}, "vision_config": {"model_type": "clip_vision_model", **CLIP}, "image_seq_length": 4},
        "images": ("llava", {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}),
        "told": {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
        "tokens": {"image_token_id": "<image>"},
    },
    "idefics3": {
        "config": {"text_config": {"model_type": "llama", **TEXT}, "vision_config": SIGLIP, "scale_factor": 2},
        "images": ("idefics3", {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}}),
        "told": {"image_seq_len": 4},
        "tokens": {"image_token_id": "<image>"},
    },
    "smolvlm": {
        "config": {"text_config": {"model_type": "llama", **TEXT}, "vision_config": {"model_type": "smolvlm_vision", **SIGLIP}, "scale_factor": 2},
        "images": ("smolvlm", {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}}),
        "told": {"image_seq_len": 4},
        "tokens": {"image_token_id": "<image>"},
    },
    "gemma3": {
        "config": {"text_config": {"model_type": "gemma3_text", **TEXT}, "vision_config": {"model_type": "siglip_vision_model", **SIGLIP, "vision_use_head": False}, "mm_tokens_per_image": 4},
        "images": ("gemma3", {"size": {"height": 28, "width": 28}}),
        "told": {"image_seq_length": 4},
        "tokens": {"image_token_id": "<image_soft_token>", "boi_token_id": "<start_of_image>", "eoi_token_id": "<end_of_image>"},
        "named": {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"},
        "shown": "<start_of_image>",
    },
    "qwen2_vl": {
        "config": {"text_config": {"model_type": "qwen2_vl_text", **TEXT, "rope_parameters": ROPE}, "vision_config": QWEN2},
        "images": ("qwen2_vl", {"size": {"shortest_edge": 28 * 28, "longest_edge": 56 * 56}}),
        "tokens": {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>", "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"},
        "shown": "<|vision_start|><|image_pad|><|vision_end|>",
    },
    "internvl": {
        "config": {"text_config": {"model_type": "qwen2", **TEXT}, "vision_config": {**TOWER, "image_size": [28, 28], "patch_size": [7, 7]}, "image_seq_length": 4, "downsample_ratio": 0.5},
        "images": ("got_ocr2", {"size": {"height": 28, "width": 28}, "crop_to_patches": True, "max_patches": 3}),
        "told": {"image_seq_length": 4},
        "tokens": {"image_token_id": "<IMG_CONTEXT>"},
        "named": {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"},
    },
    "mistral3": {
        "config": {"text_config": {"model_type": "mistral", **TEXT}, "vision_config": {"model_type": "pixtral", **TOWER, "image_size": 56, "patch_size": 14, "head_dim": 16}, "spatial_merge_size": 2},
        "images": ("pixtral", {"size": {"longest_edge": 56}, "patch_size": {"height": 28, "width": 28}}),
        "told": {"patch_size": 14, "spatial_merge_size": 2},
        "tokens": {"image_token_id": "[IMG]"},
    },
}  # fmt: skip
FAMILIES["qwen2_5_vl"] = {**FAMILIES["qwen2_vl"], "config": {"text_config": {"model_type": "qwen2_5_vl_text", **TEXT, "rope_parameters": ROPE}, "vision_config": QWEN25}}  # fmt: skip
FAMILIES["qwen3_vl"] = {**FAMILIES["qwen2_vl"], "config": {"text_config": {"model_type": "qwen3_vl_text", **TEXT, "rope_parameters": ROPE}, "vision_config": QWEN3}}  # fmt: skip
MORE_TOKENS = ["<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "[IMG_BREAK]", "[IMG_END]"]
MORE_TOKENS += [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}SHOWN{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make(folder: Path, family: str) -> Path:
    """A model's whole folder."""
    about = FAMILIES[family]
    tokens = [*about["tokens"].values(), *about.get("named", {}).values(), *MORE_TOKENS, "<|im_start|>", "<|im_end|>"]
    tokenizer = AutoTokenizer.from_pretrained(STARTER, extra_special_tokens=about.get("named", {}))
    tokenizer.add_tokens(list(dict.fromkeys(tokens)), special_tokens=True)
    tokenizer.chat_template = TEMPLATE.replace("SHOWN", about.get("shown", next(iter(about["tokens"].values()))))
    tokenizer.save_pretrained(folder)
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in about["tokens"].items()}
    config = AutoConfig.for_model(family, **about["config"], **ids, eos_token_id=tokenizer.eos_token_id)
    config.text_config.vocab_size = len(tokenizer)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    for weight in model.parameters():
        if not weight.any():  # a projector that is closed at first would hide the pictures
            torch.nn.init.normal_(weight, std=0.02)
    model.save_pretrained(folder)
    module, told = about["images"]
    found = vars(import_module(f"transformers.models.{module}.image_processing_pil_{module}")).values()
    kind = next(
        each
        for each in found
        if isinstance(each, type) and each.__name__.endswith("ImageProcessorPil") and each.__module__.endswith(module)
    )
    kind(**told).save_pretrained(folder)
    if about.get("told"):
        (folder / "processor_config.json").write_text(json.dumps(about["told"]), encoding="utf-8")
    return folder

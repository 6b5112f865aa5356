"""Every family of text models: what an adapter reaches is what docs/models.md says, and what training moves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from transformers import AutoConfig, AutoModelForCausalLM

from trainer.data.batches import collate
from trainer.data.masks import Example
from trainer.errors import TrainError
from trainer.models.adapting import Adapted, with_lora
from trainer.models.parts import ATTENTION, EMBEDDINGS, EXPERTS, HEAD, MLP, STATE_SPACE, VECTORS, VISION, Unit
from trainer.portions import Portions
from trainer.snapshot import Progress
from trainer.spec import Lora

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
FAMILIES = {
    found[1]: tuple(frozenset(filter(None, each.strip().split(", "))) for each in found[2].split("|"))
    for found in re.finditer(r"^\|[^|]+\| `(\w+)` \|((?:[^|]*\|){2}[^|]*)\|$", PAGE.read_text(encoding="utf-8"), re.M)
}

# What makes a model tiny in one family or another; a family takes what its configuration knows.
SMALL = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128, "num_experts": 4,
    "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 1, "moe_layer_start_index": 1, "kv_lora_rank": 16, "q_lora_rank": 16,
    "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16, "n_embd": 64, "n_layer": 2, "n_head": 4,
    "n_positions": 128, "shared_intermediate_size": 64, "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16,
    "mamba_chunk_size": 16, "chunk_size": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 16, "linear_value_head_dim": 16, "vocab_size_per_layer_input": 256,
    "hidden_size_per_layer_input": 16,
}  # fmt: skip
LINEAR = {"layer_types": ["linear_attention", "full_attention"]}
CONVOLUTION = {"layer_types": ["conv", "full_attention"]}
OWN: dict[str, dict[str, Any]] = {
    "qwen3_next": LINEAR,
    "qwen3_5_text": LINEAR,
    "qwen3_5_moe_text": LINEAR,
    "olmo_hybrid": LINEAR,
    "minimax": LINEAR | {"block_size": 16},
    "lfm2": CONVOLUTION | {"block_ff_dim": 128, "block_auto_adjust_ff_dim": False},
    "lfm2_moe": CONVOLUTION | {"num_dense_layers": 1},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"], "num_kv_shared_layers": 0, "laurel_rank": 8,
        "intermediate_size": [128, 128], "activation_sparsity_pattern": [0.0, 0.0],
    },
    "gemma4_text": {"global_head_dim": 16, "num_global_key_value_heads": 2},
    "deepseek_v2": {"head_dim": 8, "num_key_value_heads": 4},
    "deepseek_v3": {"head_dim": 8, "num_key_value_heads": 4},
    "gptj": {"rotary_dim": 8},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "mamba": {"state_size": 8},
    "mamba2": {"num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 1},
    "falcon_h1": {"mamba_d_ssm": 128},
    "bamba": {"attn_layer_indices": [1]},
    "jamba": {
        "mamba_d_state": 8, "mamba_dt_rank": 8, "attn_layer_period": 2, "attn_layer_offset": 1,
        "expert_layer_period": 2, "expert_layer_offset": 1, "use_mamba_kernels": False,
    },
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"], "mamba_ngroups": 1, "n_mamba_heads": 8, "mamba_headdim": 16,
        "num_mem_blocks": 1,
    },
    "nemotron_h": {
        "layers_block_type": ["mamba", "attention", "moe", "mlp"], "num_hidden_layers": 4, "mamba_num_heads": 8,
        "mamba_head_dim": 16, "ssm_state_size": 16, "n_groups": 1, "moe_shared_expert_intermediate_size": 32,
    },
    "llama4_text": {"intermediate_size_mlp": 128, "interleave_moe_layer_step": 2},
    "recurrent_gemma": {"lru_width": 64, "block_types": ["recurrent", "attention"], "attention_window_size": 16},
    "phi3": {"num_key_value_heads": 4},
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def tiny(family: str, **change: Any) -> Any:
    """A frozen model of the family with about 100,000 random weights."""
    known = AutoConfig.for_model(family)
    names = {*known.to_dict(), *known.attribute_map}
    shape = {key: value for key, value in SMALL.items() if key in names} | OWN.get(family, {}) | change
    config = AutoConfig.for_model(family, **shape, vocab_size=256, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for weight in model.parameters():
        if not weight.any():  # a gate that is closed at first would hide what lies behind it
            torch.nn.init.normal_(weight, std=0.02)
    return model.requires_grad_(False)


def groups(adapted: Adapted) -> tuple[frozenset[str], ...]:
    """The parts that are trained, partly trained and frozen, in the words of the page."""
    told: dict[str, list[int]] = {}
    for row in adapted.coverage.rows:
        if row.part not in (EMBEDDINGS, HEAD, VECTORS):
            name = row.part.partition(" ")[0] if row.part in (*ATTENTION, *MLP) and " " in row.part else row.part
            name = {STATE_SPACE: "state space", "shared": "shared experts"}.get(row.part, name)
            counts = told.setdefault("shared experts" if name == "shared" else name, [0, 0])
            counts[0] += row.trained
            counts[1] += row.frozen
        else:
            assert row.trained == 0
    return (
        frozenset(name for name, (trained, frozen) in told.items() if trained and not frozen),
        frozenset(name for name, (trained, frozen) in told.items() if trained and frozen),
        frozenset(name for name, (trained, frozen) in told.items() if not trained),
    )


def learn(adapted: Adapted, steps: int = 4) -> list[float]:
    """Steps of the loop's own gradient on two rows; returns each step's loss."""
    model = adapted.model.train()
    rows = [Example(ids, ids) for ids in ([5, 9, 17, 33, 65, 129, 3, 6, 12, 24, 48], [7, 11, 13, 19, 23, 29, 31])]
    portions = Portions(Accelerator(cpu=True), model, "off", 0.0, print)
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-2)
    losses = []
    for _ in range(steps):
        losses.append(portions.forward_and_backward([collate(rows, pad=0)], Progress()))
        optimizer.step()
        optimizer.zero_grad()
    return losses


def moves_what_it_reports(adapted: Adapted) -> None:
    before = {name: weight.detach().clone() for name, weight in adapted.model.named_parameters()}
    losses = learn(adapted)
    moved = {name for name, weight in adapted.model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {name for name, weight in adapted.model.named_parameters() if weight.requires_grad}
    assert sum(before[name].numel() for name in moved) == sum(row.parameters for row in adapted.coverage.rows)
    assert losses[-1] < losses[0]


def test_the_page_names_every_family_that_users_were_found_to_have() -> None:
    assert len(FAMILIES) >= 50
    assert {"llama", "mixtral", "qwen3_next", "gpt_oss", "deepseek_v3", "falcon_h1", "mamba2", "gpt2"} <= set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_linear_reaches_what_the_page_says_and_training_moves_that(family: str) -> None:
    adapted = with_lora(tiny(family), Lora(rank=4))
    assert groups(adapted) == FAMILIES[family]
    frozen_experts = any(row.part == EXPERTS and row.frozen for row in adapted.coverage.rows)
    assert bool(adapted.warnings) == frozen_experts
    moves_what_it_reports(adapted)


@pytest.mark.parametrize(
    "family", [name for name, parts in FAMILIES.items() if "MLP" in parts[0] or EXPERTS in parts[0] | parts[2]]
)
def test_attention_and_mlp_reach_every_expert_and_no_router(family: str) -> None:
    adapted = with_lora(tiny(family), Lora(rank=4, target_modules="attention, mlp"))
    for row in adapted.coverage.rows:
        if row.part != STATE_SPACE:
            assert (row.frozen == 0) == (row.part in (*ATTENTION, *MLP)), row
    assert not adapted.warnings
    moves_what_it_reports(adapted)


@pytest.mark.parametrize(
    ("family", "lora", "code", "said"),
    [
        (
            "llama",
            {"target_modules": "q_proj, qproj"},
            "lora-targets",
            "names qproj, which cannot be adapted: this model",
        ),
        ("mamba2", {"target_modules": "mlp"}, "lora-targets", "names mlp"),
        ("mamba2", {"target_modules": "out_proj"}, "lora-targets", "the state space's kernels take these weights"),
        ("llama", {"target_modules": "(q_proj"}, "lora-targets", "'(q_proj'"),
        ("llama", {"target_modules": ".*nothing"}, "lora-targets", "'.*nothing'"),
        ("mixtral", {"dropout": 0.1}, "lora-experts", "fused into one tensor"),
        ("gpt_oss", {"dropout": 0.1, "target_modules": "mlp"}, "lora-experts", "fused into one tensor"),
    ],
)
def test_what_cannot_be_reached_is_refused(family: str, lora: dict[str, Any], code: str, said: str) -> None:
    with pytest.raises(TrainError) as caught:
        with_lora(tiny(family), Lora(rank=4, **lora))
    assert caught.value.code == code and said in caught.value.message


def test_a_vision_tower_stays_as_it_is_while_the_rows_hold_no_pictures() -> None:
    text = {key: value for key, value in SMALL.items() if key in AutoConfig.for_model("gemma3_text").to_dict()}
    seeing = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
        "patch_size": 14,
    }  # fmt: skip
    config = AutoConfig.for_model("gemma3", text_config={**text, "vocab_size": 256}, vision_config=seeing)
    adapted = with_lora(AutoModelForCausalLM.from_config(config).requires_grad_(False), Lora(rank=4))
    rows = {row.part: row for row in adapted.coverage.rows}
    assert (rows[VISION].trained, rows[VISION].modules) == (0, 18)
    assert rows["attention query"].frozen == 0 and "what sees stays as it is" in adapted.why
    moves_what_it_reports(adapted)


def test_layers_go_by_name_and_by_expression() -> None:
    for asked in ("q_proj, mlp.up_proj", r".*\.(q_proj|up_proj)"):
        adapted = with_lora(tiny("llama"), Lora(rank=4, target_modules=asked))
        assert {row.part for row in adapted.coverage.rows if row.trained} == {"attention query", "MLP up"}


def test_an_adapter_that_is_not_where_it_was_asked_for_ends_the_run() -> None:
    adapted = with_lora(tiny("llama"), Lora(rank=4, target_modules="q_proj"))
    adapted.coverage.require([Unit("model.layers.1.self_attn.q_proj", "attention query", True)])
    with pytest.raises(TrainError, match=r"was to reach model\.layers\.0\.mlp\.up_proj") as caught:
        adapted.coverage.require([Unit("model.layers.0.mlp.up_proj", "MLP up", True)])
    assert caught.value.code == "lora-coverage"


def test_frozen_experts_are_told_with_the_way_to_train_them() -> None:
    (warning,) = with_lora(tiny("gpt_oss"), Lora(rank=4)).warnings
    assert "4 of their 4 tensors" in warning and "`attention, mlp`" in warning

"""What the weights of a model are for: attention, MLP, experts and so on, known by name and by structure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

QUERY, KEY, VALUE, OUTPUT = "attention query", "attention key", "attention value", "attention output"
KEY_VALUE, QUERY_KEY_VALUE = "attention key and value", "attention query, key and value"
GATE, UP, GATE_UP, DOWN = "MLP gate", "MLP up", "MLP gate and up", "MLP down"
EXPERTS, SHARED_EXPERTS, ROUTER = "experts", "shared experts", "router"
STATE_SPACE = "linear attention, state space"
EMBEDDINGS, HEAD, VECTORS, OTHER = "embeddings", "head", "norms and scales", "other"
VISION, PROJECTOR = "vision tower", "projector"

CLASSIFIER = "classifier"  # what the head of a model is called that tells classes of pictures apart

# What each keyword of `lora.target_modules` stands for. Linear attention and state spaces stand in attention's place.
ATTENTION = (QUERY, KEY, VALUE, KEY_VALUE, QUERY_KEY_VALUE, OUTPUT, STATE_SPACE)
MLP = (GATE, UP, GATE_UP, DOWN, SHARED_EXPERTS, EXPERTS)
SIGHT = (VISION, PROJECTOR)
PARTS = (*ATTENTION, *MLP, ROUTER, EMBEDDINGS, HEAD, *SIGHT, VECTORS, OTHER)

_WITHIN_ATTENTION = r"\.(\w*attn\w*|\w*attention\w*)\."
# The first that is found in a module's path decides.
_BY_NAME = [
    (PROJECTOR, r"\.(\w*multi_?modal\w*|mm_projector|connector|(\w+_)?merger(_list)?)(\.|$)"),
    (VISION, r"\.(vision\w*|visual|image\w*)\."),
    (ROUTER, r"\.(router|gate|wg|shared_expert_gate)(\.layer)?$"),
    (SHARED_EXPERTS, r"\.(shared_experts?|shared_mlp)\."),
    (EXPERTS, r"\.experts(\.|$)"),
    (STATE_SPACE, r"\.(linear_attn|mamba)\."),
    (QUERY, r"\.(q(_a|_b)?_proj|query)$"),
    (KEY, r"\.(k_proj|key)$"),
    (VALUE, r"\.(v_proj|value)$"),
    (KEY_VALUE, r"\.kv(_a|_b)?_proj\w*$"),
    (QUERY_KEY_VALUE, r"\.(qkv_proj|c_attn|query_key_value|Wqkv)$"),
    (OUTPUT, r"\.o_proj$|" + _WITHIN_ATTENTION + r"(.*\.)?(out_proj|dense|c_proj|output)$"),
    (GATE, r"\.(gate_proj|w1)$"),
    (UP, r"\.(up_proj|w3|c_fc|fc1|fc_in|dense_h_to_4h|weights_in|pwconv1)$"),
    (GATE_UP, r"\.gate_up_proj$"),
    (DOWN, r"\.(down_proj|w2|c_proj|fc2|fc_out|dense_4h_to_h|weights_out|pwconv2)$"),
]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_WHOLE = (nn.Linear, Conv1D, nn.Embedding, *_CONVOLUTIONS)


def language_model(model: Any) -> Any:
    """The part of a model that sees which reads tokens; any other model whole."""
    return model.get_decoder() if hasattr(model.config, "vision_config") else model


@dataclass(frozen=True)
class Unit:
    """A module, or a matrix that its module holds bare: `name` is its path, `sides` the two that a product sees."""

    name: str
    part: str
    linear: bool
    sides: tuple[int, int] | None = None


def units(model: Any) -> list[Unit]:
    """Everything of the model that holds weights of its own, in the model's order."""
    sees_alone = tells_classes(model)
    head = getattr(model, CLASSIFIER) if sees_alone else model.get_output_embeddings()
    modules = dict(model.named_modules())
    return [
        unit
        for name, module in modules.items()
        for unit in _units_of(
            name, module, HEAD if module is head else _part(name, module, modules, sees_alone=sees_alone)
        )
    ]


def tells_classes(model: Any) -> bool:
    """Whether it takes pictures alone and gives a number for each class."""
    return getattr(model, "main_input_name", "") == "pixel_values" and hasattr(model, CLASSIFIER)


def _units_of(name: str, module: nn.Module, part: str) -> Iterator[Unit]:
    own = dict(module.named_parameters(recurse=False))
    matrices = {key: weight for key, weight in own.items() if weight.ndim > 1 and "bias" not in key}
    if isinstance(module, nn.Linear):  # quantised ones too, whose weights have another shape
        yield Unit(name, part, True, (module.out_features, module.in_features))
    elif isinstance(module, Conv1D):
        yield Unit(name, part, True, (module.nx, module.nf))
    elif isinstance(module, nn.Embedding):
        yield Unit(name, part, False, (module.num_embeddings, module.embedding_dim))
    elif isinstance(module, _CONVOLUTIONS):
        yield Unit(name, part, False)
    elif own and not matrices:
        yield Unit(name, VECTORS, False)
    for key, weight in matrices.items() if not isinstance(module, _WHOLE) else ():
        yield Unit(f"{name}.{key}", part, False, (weight.shape[-2], weight.shape[-1]))


def _part(name: str, module: nn.Module, modules: dict[str, nn.Module], *, sees_alone: bool) -> str:
    if isinstance(module, nn.Embedding):
        return EMBEDDINGS
    parent = modules[name.rpartition(".")[0]]
    for part, pattern in _BY_NAME:
        if part == QUERY and (_mixes_over_time(parent) or _mixes_over_time(module)):
            return STATE_SPACE
        if part == VISION and sees_alone:  # all of it is one
            continue
        if re.search(pattern, f".{name}"):
            return part
    return EXPERTS if "Experts" in type(module).__name__ else OTHER


def _mixes_over_time(module: nn.Module) -> bool:
    """Whether it has a convolution over the sequence, as state spaces and short convolutions have."""
    return any(isinstance(child, nn.Conv1d) for child in module.children())

"""Which weights an adapter goes on: what a person names, resolved for the model at hand."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from peft import LoraConfig
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn

from trainer.errors import TrainError
from trainer.models.parts import (
    ATTENTION,
    EMBEDDINGS,
    EXPERTS,
    HEAD,
    MLP,
    PARTS,
    PROJECTOR,
    SIGHT,
    VISION,
    Unit,
    tells_classes,
)

ALL_LINEAR = "all-linear"
LANGUAGE = tuple(part for part in PARTS if part not in (HEAD, *SIGHT))
BARE = (EXPERTS, PROJECTOR)  # parts whose matrices some families hold without a layer around them
KEYWORDS = {"attention": ATTENTION, "mlp": MLP, "projector": (PROJECTOR,), "vision": (VISION,)}


@dataclass(frozen=True)
class Targets:
    """What PEFT is told: modules, bare matrices and modules to pass over, by name.

    `expected` are the units that have to be reached, `why` says which were passed over and for what reason.
    """

    modules: str | list[str]
    parameters: list[str]
    excluded: list[str]
    expected: list[Unit]
    why: list[str]


def resolve(model: Any, found: list[Unit], asked: str) -> Targets:
    """The targets for `all-linear`, for it, keywords and module names with commas between them, or for an expression.

    `found` are the model's units. Raises `TrainError` (`lora-targets`) for the first name that this model has not.
    """
    names = [name.strip() for name in asked.split(",")]
    barred = _barred(model, found, names)
    why = [
        f"not {_some(name for name in barred if barred[name] == reason)}: {reason}" for reason in set(barred.values())
    ]
    taken = _taken_for_experts(model, found)
    if asked == ALL_LINEAR:
        expected = [unit for unit in found if unit.linear and unit.part != HEAD and unit.name not in barred]
        return Targets(ALL_LINEAR, _weights(expected, taken), sorted(barred), expected, sorted(why))
    if not all(re.fullmatch(r"[\w.-]+", name) for name in names):
        return Targets(asked, [], [], [], [])
    expected = list({unit.name: unit for name in names for unit in _named(name, found, barred)}.values())
    bare = [unit.name for unit in expected if not unit.linear and unit.part != EMBEDDINGS]
    modules = {unit.name for unit in expected if _leaf(unit.name) not in taken} - set(bare)
    return Targets(_shortened(model, modules), [*bare, *_weights(expected, taken)], [], expected, why)


def _named(name: str, found: list[Unit], barred: dict[str, str]) -> list[Unit]:
    """The units that one name stands for: a keyword, or the end of a path."""
    parts = KEYWORDS.get(name)
    if name == ALL_LINEAR:
        chosen = [unit for unit in found if unit.part in LANGUAGE and unit.linear]
    elif parts:
        chosen = [unit for unit in found if unit.part in parts and (unit.linear or (unit.part in BARE and unit.sides))]
    else:
        chosen = [unit for unit in found if f".{unit.name}".endswith(f".{name}") and unit.sides]
    usable = [unit for unit in chosen if unit.name not in barred]
    if not usable:
        layers = _some(unit.name for unit in found if unit.linear and unit.name not in barred)
        reason = barred[chosen[0].name] if chosen else "this model has no such layer"
        raise TrainError(
            "lora-targets",
            f"`lora.target_modules` names {name}, which cannot be adapted: {reason}.",
            f"Name some of {layers}, or use `all-linear`.",
        )
    return usable


def _barred(model: Any, found: list[Unit], names: list[str]) -> dict[str, str]:
    """Linear layers that an adapter would not work on, or that nobody has asked for by name, each with the reason."""
    modules = dict(model.named_modules())
    linear = [unit for unit in found if unit.linear and unit.part != HEAD]
    asked = [part for name in names for part in KEYWORDS.get(name, ())]
    reasons = {
        unit.name: _why_blind(model, unit, asked)
        if unit.part in SIGHT
        else _why_not(model, unit, modules[unit.name], modules[unit.name.rpartition(".")[0]])
        for unit in linear
    }
    return {name: reason for name, reason in reasons.items() if reason}


def _why_blind(model: Any, unit: Unit, asked: list[str]) -> str | None:
    if unit.part not in asked:
        return "what sees stays as it is unless `vision` or `projector` are named"
    layer = re.search(r"\.layers\.(\d+)\.", unit.name)
    if unit.part == VISION and layer and int(layer[1]) >= _layers_seen_through(model.config):
        return "pictures are taken from an earlier layer of the tower"
    return None


def _layers_seen_through(config: Any) -> float:
    """How many layers of the tower lie before what the model takes of a picture; Llava leaves the last one out."""
    taken = getattr(config, "vision_feature_layer", None)
    if taken is None:
        return math.inf
    states = config.vision_config.num_hidden_layers + 1  # the first are the embeddings
    return max(each % states for each in (taken if isinstance(taken, list) else [taken]))


def _why_not(model: Any, unit: Unit, module: nn.Module, parent: nn.Module) -> str | None:
    if ".head." in f".{unit.name}" and tells_classes(model):
        return "the classes are told from the mean over the picture, past this pooling"
    # Mamba's mixers have both; gated linear attention has only the first, and calls its layers as layers.
    mamba = hasattr(parent, "A_log") and hasattr(parent, "D")
    if mamba and _leaf(unit.name) in ("out_proj", "x_proj", "dt_proj"):
        return "the state space's kernels take these weights past any adapter"
    if _leaf(unit.name) in ("correction_coefs", "prediction_coefs"):  # of Gemma 3n
        return "training takes these weights past any adapter"
    # PEFT would take the router of Llama 4 and Phi MoE for a plain layer, and stumble over what it returns.
    own_forward = type(module).forward is not nn.Linear.forward
    if isinstance(module, nn.Linear) and own_forward and type(module).__module__.startswith("transformers.models."):
        return "a router that is no plain linear layer"
    return None


def _taken_for_experts(model: Any, found: list[Unit]) -> set[str]:
    """Names under which PEFT means the fused experts in this family, so that layers really called so go missing."""
    if not any(unit.part == EXPERTS for unit in found):
        return set()
    linear = {_leaf(unit.name) for unit in found if unit.linear and unit.part != HEAD}
    config = LoraConfig(target_modules=set(linear))
    convert_peft_config_for_transformers(config, model, None)
    return linear - set(config.target_modules or ())


def _weights(chosen: list[Unit], taken: set[str]) -> list[str]:
    """The weights of those layers whose names are taken: PEFT adapts them when they are named as bare matrices."""
    return [f"{unit.name}.weight" for unit in chosen if unit.linear and _leaf(unit.name) in taken]


def _shortened(model: Any, chosen: set[str]) -> list[str]:
    """The modules by the last part of their name where that means no others, as adapters are usually published."""
    others = {_leaf(name) for name, _ in model.named_modules() if name not in chosen}
    return sorted({name if _leaf(name) in others else _leaf(name) for name in chosen})


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted({_leaf(name) for name in names}))

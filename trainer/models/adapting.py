"""Put an adapter on a model: a fresh one, or one that was trained before."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.utils import ModulesToSaveWrapper
from safetensors import SafetensorError, safe_open

from trainer.errors import TrainError
from trainer.models.coverage import Coverage, measure
from trainer.models.folder import ADAPTER_WEIGHTS, check_adapter
from trainer.models.parts import CLASSIFIER, EMBEDDINGS, HEAD, Unit, tells_classes, units
from trainer.models.targets import resolve
from trainer.spec import Lora


@dataclass(frozen=True)
class Adapted:
    """A model with its adapter, what that reaches, how it was chosen, and what a person should know of it."""

    model: PeftModel
    coverage: Coverage
    why: str
    warnings: list[str]


def with_lora(model: Any, lora: Lora) -> Adapted:
    """The model with its adapter; raises `TrainError` where request and reality differ."""
    if lora.start_from:
        return _trained_before(model, Path(lora.start_from), lora)
    found = units(model)
    targets = resolve(model, found, lora.target_modules)
    whole = _trained_whole(model, lora.modules_to_save)
    head = [CLASSIFIER] if tells_classes(model) else []
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        target_modules=targets.modules,
        target_parameters=targets.parameters or None,
        exclude_modules=[*targets.excluded, *head] or None,
        modules_to_save=[*whole, *head] or None,
        # Head and embeddings that are one matrix stay one.
        ensure_weight_tying=_tied(model) and any(unit.part in (EMBEDDINGS, HEAD) for unit in _within(found, whole)),
        task_type=None if head else "CAUSAL_LM",
    )
    try:
        adapted = get_peft_model(model, config)
    except (ValueError, re.error) as error:
        raise _unadaptable(lora, error) from error
    _train_whole_in_full(adapted)
    reached = measure(adapted, found)
    reached.require(targets.expected)
    why = [f"adapted layers: {lora.target_modules}", *targets.why, *_beyond_rank(lora, found, reached)]
    return Adapted(adapted, reached, "; ".join(why), _warnings(reached))


def _trained_before(model: Any, folder: Path, lora: Lora) -> Adapted:
    """The model with the adapter of that folder, trainable; every tensor of it has to find its place."""
    check_adapter(folder, model.config.name_or_path)
    found = units(model)
    try:
        adapted = PeftModel.from_pretrained(model, folder, is_trainable=True)
        with safe_open(folder / ADAPTER_WEIGHTS, "pt") as file:
            left = set(file.keys()) ^ set(get_peft_model_state_dict(adapted))
    except (ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise _misfit(folder, str(error)) from error
    if left:
        raise _misfit(folder, f"{sorted(left)[0]} is on one side only")
    _train_whole_in_full(adapted)
    reached, config = measure(adapted, found), adapted.peft_config["default"]
    why = f"adapted layers: as in {folder}, with its rank {config.r}, alpha {config.lora_alpha}, dropout {config.lora_dropout:g}"
    own = {"rank": config.r, "alpha": config.lora_alpha, "dropout": config.lora_dropout}
    ignored = [
        name for name, value in own.items() if getattr(lora, name) not in (value, Lora.model_fields[name].default)
    ]
    warning = [
        f"`lora.{name}` {getattr(lora, name)} is not used: the adapter goes on with its {own[name]}."
        for name in ignored
    ]
    return Adapted(adapted, reached, why, [*warning, *_warnings(reached)])


def _trained_whole(model: Any, asked: str) -> list[str]:
    """The paths of the modules that `lora.modules_to_save` names; raises `TrainError` for a name without one."""
    whole: list[str] = []
    for name in filter(None, map(str.strip, asked.split(","))):
        matching = [path for path, _ in model.named_modules() if f".{path}".endswith(f".{name}")]
        if not matching:
            raise TrainError(
                "lora-coverage",
                f"`lora.modules_to_save` names {name}, and this model has no such module.",
                "Name modules by the end of their path, as `lm_head` or `model.norm`.",
            )
        whole += matching
    return whole


def _train_whole_in_full(model: PeftModel) -> None:
    """Train in fp32 what is trained whole, also on a base of fewer bits: small steps would be rounded away."""

    def receive(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(each.float() if torch.is_tensor(each) and each.is_floating_point() else each for each in inputs)

    def hand_on(module: Any, _inputs: Any, output: Any) -> Any:
        return output.to(base) if torch.is_tensor(output) else output

    base = model.get_base_model().dtype
    for wrapper in model.modules():
        if isinstance(wrapper, ModulesToSaveWrapper) and base != torch.float32:
            for module in wrapper.modules_to_save.values():
                module.float()
                module.register_forward_pre_hook(receive)
                module.register_forward_hook(hand_on)


def _within(found: list[Unit], paths: list[str]) -> list[Unit]:
    return [unit for unit in found if any(f"{unit.name}.".startswith(f"{path}.") for path in paths)]


def _tied(model: Any) -> bool:
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def _beyond_rank(lora: Lora, found: list[Unit], reached: Coverage) -> list[str]:
    """In words, where the rank is larger than a layer has rows or columns; raises `TrainError` where it is everywhere."""
    adapted = [unit for unit in found if unit.name in reached.reached and unit.part not in (HEAD, EMBEDDINGS)]
    sides = {unit.name.rpartition(".")[2]: min(unit.sides) for unit in adapted if unit.sides}
    thin = {name: side for name, side in sides.items() if side < lora.rank}
    if thin and thin == sides:
        widest = max(thin.values())
        raise TrainError(
            "lora-rank",
            f"`lora.rank` is {lora.rank}, and no adapted layer has more than {widest} rows or columns at its smaller side.",
            f"Lower it to {widest // 2} or less: beyond its smaller side a layer gains nothing.",
        )
    names = ", ".join(f"{name} ({side})" for name, side in sorted(thin.items()))
    return [f"rank {lora.rank} is more than the smaller side of {names}, which gain nothing by it"] if thin else []


def _warnings(reached: Coverage) -> list[str]:
    frozen = reached.frozen_experts()
    return [frozen] if frozen else []


def _unadaptable(lora: Lora, error: Exception) -> TrainError:
    if "ParamWrapper" in str(error):  # on a bare tensor PEFT can put nothing but a plain adapter
        return TrainError(
            "lora-experts",
            "This model's experts, or its projector, are fused into one tensor, whose adapter takes neither `lora.dropout` nor `lora.dora`.",
            "Set `lora.dropout` to 0 and `lora.dora` to false, or adapt `attention` only.",
        )
    return TrainError(
        "lora-targets",
        f"No layer can be adapted with target_modules {lora.target_modules!r}.",
        "Use `all-linear`, or mend the expression.",
    )


def _misfit(folder: Path, reason: str) -> TrainError:
    return TrainError(
        "adapter-mismatch",
        f"The adapter in {folder} does not fit this model: {reason.strip().splitlines()[0][:300]}.",
        "Choose the model that it was trained on, or start without it.",
    )

"""What an adapter has really reached, counted on the model itself: the words of a setting prove nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from peft.tuners.lora.layer import LoraLayer, ParamWrapper
from peft.utils import AuxiliaryTrainingWrapper

from trainer.errors import TrainError
from trainer.models.parts import EXPERTS, OTHER, PARTS, Unit


@dataclass(frozen=True)
class Row:
    """How many modules of a part are trained, how many stay as they are, and the parameters trained for them."""

    part: str
    modules: int
    trained: int
    frozen: int
    parameters: int


@dataclass(frozen=True)
class Coverage:
    """The parts that a model has, in a fixed order, and the counts of all its parameters."""

    rows: list[Row]
    trained: int
    total: int
    reached: frozenset[str]

    def require(self, expected: Iterable[Unit]) -> None:
        """Raise `TrainError` where something that was asked for is not trained after all."""
        missed = [unit for unit in expected if unit.name not in self.reached]
        if missed:
            raise TrainError(
                "lora-coverage",
                f"The adapter was to reach {missed[0].name} ({missed[0].part}) and has not, nor {len(missed) - 1} more.",
                "Name other layers in `lora.target_modules`, or install the dependencies with a newer peft.",
            )

    def frozen_experts(self) -> str | None:
        """In words, that a model's experts stay as they are; None where it has none or they are trained."""
        row = next((row for row in self.rows if row.part == EXPERTS), None)
        if row is None or not row.frozen:
            return None
        return (
            f"The experts stay frozen: {row.frozen} of their {row.modules} tensors, where most of this model's weights "
            "are, learn nothing. To train them, set `lora.target_modules` to `attention, mlp`."
        )


def measure(model: Any, found: list[Unit]) -> Coverage:
    """Count the adapted model's trained parameters against the units that its base had."""
    wrappers = {
        name: each for name, each in model.named_modules() if isinstance(each, LoraLayer | AuxiliaryTrainingWrapper)
    }
    part_of = {unit.name: unit.part for unit in found}
    reached: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            reached[_unit(name, wrappers, part_of)] += parameter.numel()
    modules, trained, parameters = Counter(part_of.values()), Counter[str](), Counter[str]()
    for name, count in reached.items():
        trained[part_of.get(name, OTHER)] += 1
        parameters[part_of.get(name, OTHER)] += count
    rows = [
        Row(part, modules[part], trained[part], modules[part] - trained[part], parameters[part])
        for part in PARTS
        if modules[part]
    ]
    _, total = model.get_nb_trainable_parameters()  # knows how many weights a packed tensor holds
    return Coverage(rows, reached.total(), total, frozenset(reached))


def _unit(parameter: str, wrappers: dict[str, Any], part_of: dict[str, str]) -> str:
    """The unit that a trained parameter belongs to, by the wrapper that PEFT has put around it."""
    owner = parameter
    while owner not in wrappers:
        owner = owner.rpartition(".")[0]
    wrapper = wrappers[owner]
    if isinstance(wrapper, ParamWrapper):  # on experts one lies within the other, each for one matrix
        inner = wrapper.parameter_name
    else:  # a module that is trained whole may hold several units
        inner = parameter.partition(".modules_to_save.default.")[2]
    unit = f"{owner}.{inner}".removeprefix("base_model.model.").replace(".base_layer", "")
    while unit and unit not in part_of:
        unit = unit.rpartition(".")[0]
    return unit

"""The whole of a run."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any, Literal

from pydantic import ValidationError

from trainer.spec.data import Data
from trainer.spec.evaluation import Evaluation
from trainer.spec.lora import Lora
from trainer.spec.optimizer import Optimizer
from trainer.spec.setting import Section, setting
from trainer.spec.training import Training


class RunSpec(Section):
    """A run: the same wherever it was started."""

    model: str = setting(
        "",
        "Model",
        "A folder with `config.json`, safetensors weights and a tokenizer, or `hub:owner/name@revision`.",
        level="basic",
    )
    base_precision: Literal["auto", "fp32", "bf16"] = setting(
        "auto",
        "Precision of the base",
        "bf16: the frozen weights take half the memory. Auto: where the run computes in it.",
    )
    quantise: Literal["none", "4bit", "8bit"] = setting(
        "none",
        "Quantise the base",
        "The frozen weights take a quarter (`8bit`) or an eighth (`4bit`) of fp32, and lose a little; slower.",
        acts_on=("cpu", "cuda"),
    )
    trust_code: str = setting(
        "",
        "Trusted code",
        "The fingerprint of a model's own Python code, as its refusal prints it: that code will run. Empty: none does.",
        level="expert",
        max_length=64,
    )
    data: Data = Data()
    lora: Lora = Lora()
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    name: str = setting("", "Name", "Shown in the list of runs.", level="basic", max_length=200)

    def with_changes(self, changes: dict[str, Any]) -> RunSpec:
        """A copy with dotted keys replaced, as in `{"lora.rank": 8}`; raises `ValueError` for an unknown key."""
        tree = self.model_dump()
        for key, value in changes.items():
            *path, last = key.split(".")
            section = tree
            for part in path:
                if not isinstance(section.get(part), dict):
                    raise ValueError(f"There is no setting '{key}'.")
                section = section[part]
            if last not in section or isinstance(section[last], dict):
                raise ValueError(f"There is no setting '{key}'.")
            section[last] = value
        return RunSpec.model_validate(tree)

    @classmethod
    def recorded(cls, tree: dict[str, Any]) -> tuple[RunSpec, list[str]]:
        """The spec of a record that another version may have written, and the settings that this one cannot take.

        Those have their defaults in it. Raises `ValueError` for what is no spec at all.
        """
        try:
            return cls.model_validate(tree), []
        except ValidationError as error:
            foreign = sorted({".".join(map(str, each["loc"][:2])) for each in error.errors()})
        known = copy.deepcopy(tree)
        for name in foreign:
            section, _, key = name.partition(".")
            (known[section] if key else known).pop(key or section, None)
        return cls.model_validate(known), foreign

    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the spec."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

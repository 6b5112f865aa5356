"""The specification of a run: dotted keys, refusals, and a hash that only its content decides."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from trainer.schedule import learning_rate
from trainer.spec import Optimizer, RunSpec
from trainer.spec.presets import PRESETS


def test_dotted_keys_change_one_setting_and_leave_the_rest() -> None:
    spec = RunSpec().with_changes({"lora.rank": 4, "model": "m"})
    assert (spec.lora.rank, spec.model) == (4, "m")
    assert spec.optimizer == RunSpec().optimizer


@pytest.mark.parametrize("key", ["lora.rnk", "rank", "lora", "lora.rank.more", ""])
def test_an_unknown_setting_is_refused_by_name(key: str) -> None:
    with pytest.raises(ValueError, match="There is no setting"):
        RunSpec().with_changes({key: 1})


@pytest.mark.parametrize(
    "change", [{"lora.rank": 0}, {"lora.dropout": 1.0}, {"optimizer.learning_rate": 0}, {"training.device": "tpu"}]
)
def test_a_value_outside_its_range_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RunSpec().with_changes(change)


def test_the_hash_depends_on_content_only() -> None:
    assert RunSpec(model="a").digest() == RunSpec.model_validate({"model": "a", "lora": {}}).digest()
    assert RunSpec(model="a").digest() != RunSpec(model="b").digest()


def test_every_setting_says_what_it_does() -> None:
    schema = RunSpec.model_json_schema()
    settings = [
        setting for section in (schema, *schema["$defs"].values()) for setting in section["properties"].values()
    ]
    described = [setting for setting in settings if "level" in setting]
    assert len(described) >= 24
    assert all(setting["title"] and setting["description"] for setting in described)


def test_the_rate_rises_through_the_warm_up_and_falls_to_nearly_zero() -> None:
    spec = Optimizer(learning_rate=1.0, warmup=0.1, schedule="cosine")
    rates = [learning_rate(spec, step, 100) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[10] == pytest.approx(1.0)
    assert 0 <= rates[-1] < 0.01


def test_a_constant_rate_stays() -> None:
    spec = Optimizer(learning_rate=0.5, warmup=0.0, schedule="constant")
    assert {learning_rate(spec, step, 7) for step in range(1, 8)} == {0.5}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_changes_settings_that_are_there(name: str) -> None:
    about, changes = PRESETS[name]
    assert (about and RunSpec().with_changes(changes) != RunSpec()) or name == "balanced"

"""The starter's recipe does not hang on one lucky seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from product import Fettle

from trainer.starter import skills

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("skill", ["ticket", "calendar"])
def test_each_seed_teaches_each_skill_and_nothing_from_shuffled_answers(
    fettle: Fettle, tmp_path: Path, skill: skills.Skill, seed: int
) -> None:
    skills.write(tmp_path, skill, seed=seed)
    shuffled = skills.with_shuffled_answers(skills.rows(skill, "train", 400, seed), seed)
    (tmp_path / "shuffled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shuffled), encoding="utf-8")
    results = {}
    for name in ("train", "shuffled"):
        arguments = ("--data", str(tmp_path / f"{name}.jsonl"), "--eval", str(tmp_path / "held_out.jsonl"))
        changes = ("--set", f"training.seed={seed}", "--output", str(tmp_path / name))
        results[name] = fettle("train", "--model", "starter", *arguments, *changes)[-1]
    assert results["train"]["base_exact_match"] <= 0.05
    assert results["train"]["tuned_exact_match"] >= 0.90
    assert results["shuffled"]["tuned_exact_match"] <= 0.05

"""The starter's text: honest pools, honest pre-training, and data files that are what the script makes."""

from __future__ import annotations

import json
import random
import re
from itertools import islice
from pathlib import Path

import pytest

from trainer.starter import skills
from trainer.starter.corpus import conversations
from trainer.starter.values import number, person, pool_of

BUNDLED = Path(skills.__file__).parent / "data"


def test_pools_share_no_value() -> None:
    rng = random.Random(0)
    for pool in ("pretrain", "train", "held_out"):
        for _ in range(300):
            assert {pool_of(part) for part in person(rng, pool).split()} == {pool}
            assert pool_of(number(rng, pool, 5)) == pool


def test_pretraining_holds_no_record_no_support_message_and_no_iso_date() -> None:
    for turns in islice(conversations(seed=3), 20_000):
        for question, answer in turns:
            text = f"{question}\n{answer}"
            assert '{"' not in text
            assert not re.search(r"\d{4}-\d{2}-\d{2}|order|refund|invites", text)


@pytest.mark.parametrize("skill", ["ticket", "calendar"])
def test_copied_values_of_held_out_rows_occur_in_no_training_row(skill: skills.Skill) -> None:
    learned = {word for row in skills.rows(skill, "train", 400, 0) for word in _words(row)}
    asked = {word for row in skills.rows(skill, "held_out", 100, 0) for word in _words(row)}
    invented = {word for word in asked if pool_of(word) == "held_out" and (word[0].isupper() or len(word) == 5)}
    assert len([word for word in invented if word not in learned]) > 150


def _words(row: skills.Row) -> set[str]:
    return set(re.findall(r"[A-Z][a-z]+|\d{5}", row["messages"][1]["content"]))


@pytest.mark.parametrize("skill", ["ticket", "calendar"])
def test_the_bundled_files_are_what_the_script_makes(skill: skills.Skill, tmp_path: Path) -> None:
    skills.write(tmp_path, skill)
    for name in ("train.jsonl", "held_out.jsonl"):
        assert (tmp_path / name).read_bytes() == (BUNDLED / skill / name).read_bytes()


def test_shuffled_answers_keep_the_questions_and_break_the_pairs() -> None:
    rows = skills.rows("ticket", "train", 100, 0)
    shuffled = skills.with_shuffled_answers(rows, seed=1)
    assert [row["messages"][0] for row in shuffled] == [row["messages"][0] for row in rows]
    kept = sum(a["messages"][1] == b["messages"][1] for a, b in zip(rows, shuffled, strict=True))
    assert kept < 10
    assert sorted(json.dumps(row["messages"][1]) for row in rows) == sorted(
        json.dumps(row["messages"][1]) for row in shuffled
    )

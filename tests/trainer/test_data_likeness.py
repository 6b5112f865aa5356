"""Near duplicates by sketches, and what a model should not learn by heart."""

from __future__ import annotations

import random

import pytest

from trainer.data.doctor.likeness import Likeness, alike, sketch
from trainer.data.doctor.personal import email, secret

WORDS = [f"word{n}" for n in range(500)]


def text(chance: random.Random, count: int = 120) -> list[str]:
    return chance.choices(WORDS, k=count)


def test_nearly_equal_texts_are_found_and_others_are_not() -> None:
    chance = random.Random(1)
    likeness, texts = Likeness(), [text(chance) for _ in range(300)]
    for number, words in enumerate(texts):
        assert likeness.find(sketch(" ".join(words))) is None
        likeness.remember(sketch(" ".join(words)), number)
    found = 0
    for number, words in enumerate(texts):
        changed = list(words)
        changed[chance.randrange(len(words))] = "other"
        found += likeness.find(sketch(" ".join(changed))) == number
    assert found > 290


def test_the_estimate_follows_what_is_shared() -> None:
    chance = random.Random(2)
    shares = []
    for _ in range(200):
        one, other = text(chance), text(chance)
        shares.append(alike(sketch(" ".join(one)), sketch(" ".join(one[:60] + other[:60]))))
    assert 0.2 < sum(shares) / len(shares) < 0.5  # a half of the words is a third of all triples


def test_a_beginning_that_all_rows_share_makes_none_of_them_alike() -> None:
    chance = random.Random(3)
    likeness = Likeness()
    for number in range(200):
        row = sketch("You are a helpful assistant and answer briefly. " + " ".join(text(chance)))
        assert likeness.find(row) is None
        likeness.remember(row, number)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("Write to Jane.Doe+x@mail.acme-corp.co.uk.", "Jane.Doe+x@mail.acme-corp.co.uk"),
        ("a@b and me@example.com, no-reply@acme.com, git@github.com", None),
        ("price @ 5.00, user@@host", None),
        ("me@example.com but jane@acme.de", "jane@acme.de"),
    ],
)
def test_addresses_of_people_are_found(said: str, found: str | None) -> None:
    assert email(said) == found


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("AKIA" + "A1B2" * 4, "AWS"),
        ("ghp_" + "a1" * 18, "GitHub"),
        ("hf_" + "abc" * 11, "Hugging Face"),
        ("sk-proj-" + "a1B2" * 10, "API key"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "private key"),
        ("postgres://admin:" + "hunter2@db.internal", "password"),
        ("eyJ" + "a" * 20 + ".eyJ" + "b" * 20 + "." + "c" * 20, "web token"),
    ],
)
def test_keys_are_named_and_not_shown_whole(key: str, what: str) -> None:
    found = secret(f"Use {key} for it.")
    assert found and what in found[0]
    assert key not in found[1] and len(found[1]) < 12


@pytest.mark.parametrize("said", ["sk-ip this", "https://acme.com:8080/a@b", "AKIA is short", "risk-" + "a" * 20])
def test_ordinary_text_holds_no_key(said: str) -> None:
    assert secret(said) is None

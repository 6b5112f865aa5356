"""Scores against values worked out by hand, intervals that cover what they say, and verdicts that claim no more."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trainer.data.masks import encode
from trainer.data.reading import read_file
from trainer.data.samples import Place, Sample
from trainer.evaluation.comparison import Measure, compare, verdict, worst_rows
from trainer.evaluation.intervals import wilson
from trainer.evaluation.judging import Score, answer, judge, row_losses
from trainer.evaluation.scores import exact_match, rouge_l, token_f1, words
from trainer.loop import train
from trainer.models.loading import load_base
from trainer.models.tokenizer import load_tokenizer
from trainer.operation import Operation, create, read_events
from trainer.spec import Data, Evaluation, RunSpec
from trainer.starter import skills

STARTER = Path(skills.__file__).parent / "model"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def rows(answers: list[str]) -> list[Sample]:
    turns = [({"role": "user", "content": f"Q{i}"}, {"role": "assistant", "content": a}) for i, a in enumerate(answers)]
    return [Sample("conversation", Place("rows.jsonl", i + 1, i + 1), pair) for i, pair in enumerate(turns)]


def score(said: list[str], nats: list[float] | None = None) -> Score:
    return Score(nats or [0.0] * len(said), [1] * len(said), list(said))


@pytest.mark.parametrize(
    ("said", "expected", "f1", "rouge"),
    [
        ("The cat sat.", "cat  SAT", 1.0, 1.0),
        ("sat cat", "the cat sat", 1.0, 0.5),  # two of two words, but only one in order
        ("red green blue", "green blue black white", 2 * 2 / 7, 2 * 2 / 7),
        ("x x x", "x y", 2 * 1 / 5, 2 * 1 / 5),  # a repeated word counts as often as it is expected
        ("", "something", 0.0, 0.0),
        ("", "the", 1.0, 1.0),  # nothing is left of either
        ("你好世界", "你好中国", 0.5, 0.5),
        ("a b c d e f g", "g f e d c b", 2 * 6 / 12, 2 * 1 / 12),
    ],
)
def test_scores_are_what_a_hand_works_out(said: str, expected: str, f1: float, rouge: float) -> None:
    assert (token_f1(said, expected), rouge_l(said, expected)) == (pytest.approx(f1), pytest.approx(rouge))
    assert (token_f1(expected, said), rouge_l(expected, said)) == (pytest.approx(f1), pytest.approx(rouge))


def test_exact_match_forgives_white_space_around_an_answer_and_nothing_else() -> None:
    assert exact_match(" 42\n", "42") == 1.0
    assert exact_match("42.", "42") == exact_match("Yes", "yes") == 0.0


def test_the_common_subsequence_is_that_of_the_plain_table() -> None:
    chance = random.Random(0)
    for _ in range(200):
        one, other = ([chance.choice("xyzw") for _ in range(chance.randrange(0, 12))] for _ in range(2))
        table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
        for i, left in enumerate(one):
            for j, right in enumerate(other):
                table[i + 1][j + 1] = table[i][j] + 1 if left == right else max(table[i][j + 1], table[i + 1][j])
        whole = len(one) + len(other)
        assert rouge_l(" ".join(one), " ".join(other)) == pytest.approx(2 * table[-1][-1] / whole if whole else 1.0)


def test_words_of_every_script_are_words() -> None:
    assert words("An Übung, die 3. - don't!") == ["übung", "die", "3", "don", "t"]


def test_a_share_of_rows_is_never_certain() -> None:
    none, all_ = wilson(0.0, 100), wilson(1.0, 100)
    assert (none.low, round(none.high or 0, 4)) == (0.0, 0.0370)
    assert (round(all_.low or 0, 4), all_.high) == (0.9630, 1.0)


def test_nine_in_ten_intervals_and_more_cover_the_true_difference() -> None:
    """100 sets of 60 rows whose true difference is known: about 95 intervals should hold it."""
    chance, held = np.random.default_rng(1), 0
    for _ in range(100):
        before = chance.normal(2.0, 0.5, 60)
        after = before - chance.normal(0.3, 0.4, 60)
        one, other = Score(list(before), [1] * 60, []), Score(list(after), [1] * 60, [])
        difference = compare(rows([""] * 60), one, other)[0].difference
        assert difference.low is not None and difference.high is not None
        held += difference.low <= -0.3 <= difference.high
    assert 88 <= held <= 100


def test_pairs_are_resampled_together() -> None:
    """A gain that is the same in every row is certain, however much the rows themselves differ."""
    nats = [float(1 + row % 7) for row in range(50)]
    measured = compare(rows([""] * 50), Score(nats, [1] * 50, []), Score([each - 0.5 for each in nats], [1] * 50, []))
    loss = measured[0]
    assert loss.better and loss.difference.low == pytest.approx(-0.5) and loss.difference.high == pytest.approx(-0.5)
    assert loss.tuned.high is not None and loss.tuned.low is not None and loss.tuned.high - loss.tuned.low > 0.5


def test_longer_rows_weigh_as_many_tokens_as_they_have() -> None:
    loss = compare(rows(["", ""]), Score([1.0, 30.0], [1, 9], []), Score([1.0, 30.0], [1, 9], []))[0]
    assert loss.base.value == pytest.approx(3.1)


@pytest.mark.parametrize(
    ("right_before", "right_after", "of", "begins"),
    [
        (0, 95, 100, "Better: exact match 0% → 95% (89% to 98%)"),
        (95, 0, 100, "Worse: exact match 95% → 0%"),
        (50, 52, 100, "No difference that 100 rows could show."),
        (0, 5, 5, "No difference that 5 rows could show."),  # all of five may go one way by chance
        (0, 6, 6, "Better: exact match 0% → 100% (61% to 100%)"),
    ],
)
def test_the_verdict_claims_what_the_rows_can_show(right_before: int, right_after: int, of: int, begins: str) -> None:
    expected = [f"{row} is right" for row in range(of)]
    sides = [
        score([f"{row} is right" if row < right else f"{row} is wrong" for row in range(of)])
        for right in (right_before, right_after)
    ]
    assert verdict(compare(rows(expected), *sides), of).startswith(begins)


def test_a_verdict_names_what_speaks_against_it() -> None:
    base = score(["wrong"] * 40, [1.0] * 40)
    tuned = score(["right"] * 40, [3.0] * 40)
    said = verdict(compare(rows(["right"] * 40), base, tuned), 40)
    assert said == "Better: exact match 0% → 100% (91% to 100%), but worse in loss 1 → 3 (3 to 3)."
    alone = verdict(compare(rows(["right"] * 40), base, score(["wrong"] * 40, [0.5] * 40)), 40)
    assert alone == "Better: loss 1 → 0.5 (0.5 to 0.5); the answers show no difference that 40 rows could show."


def test_a_loss_too_large_for_a_perplexity_is_no_number() -> None:
    huge = Score([2000.0] * 8, [1] * 8, [])
    perplexity: Measure = compare(rows([""] * 8), huge, Score([1.0] * 8, [1] * 8, []))[1]
    assert (perplexity.base.value, perplexity.better) == (None, None)
    assert perplexity.tuned.value == pytest.approx(math.e)


def test_the_worst_rows_are_wrong_ones_the_least_like_first() -> None:
    expected = ["red green", "one two", "same", "blue"]
    tuned = Score([1.0, 2.0, 3.0, 9.0], [1] * 4, ["red blue", "seven", "same", None])
    base = Score([1.0] * 4, [1] * 4, ["", "x", "y", None])
    found = worst_rows(rows(expected), base, tuned)
    assert [(row["place"], row["tuned"]) for row in found] == [
        ("rows.jsonl, line 2", "seven"),
        ("rows.jsonl, line 1", "red blue"),
    ]
    assert found[1]["base"] == "" and found[1]["question"] == "Q0" and found[1]["expected"] == "red green"
    by_loss = worst_rows(rows(expected), Score([1.0] * 4, [1] * 4, []), Score([1.0, 2.0, 3.0, 9.0], [1] * 4, []))
    assert [row["place"][-1] for row in by_loss] == ["4", "3", "2", "1"]


@pytest.fixture
def held_out(tmp_path: Path) -> list[Sample]:
    skills.write(tmp_path, "ticket", training=4, held_out=7)
    return read_file(tmp_path / "held_out.jsonl")


def test_each_row_is_charged_for_its_own_tokens(held_out: list[Sample]) -> None:
    model, tokenizer = load_base(STARTER, torch.float32).eval(), load_tokenizer(STARTER)
    examples = encode(tokenizer, held_out, Data())
    judged = judge(model, tokenizer, held_out, examples, Evaluation(generate=False), lambda: False)
    for row, example in enumerate(examples):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([example.ids])).logits[0].log_softmax(-1)
        expected = -sum(float(logits[at - 1, label]) for at, label in enumerate(example.labels) if at and label != -100)
        assert judged.nats[row] == pytest.approx(expected, rel=1e-4)
        assert judged.tokens[row] == example.scored
    assert judged.answers == [] and judged.exact_match is None


def test_want_of_memory_halves_what_is_computed_at_once(
    held_out: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = load_base(STARTER, torch.float32).eval(), load_tokenizer(STARTER)
    examples = encode(tokenizer, held_out, Data())
    enough = row_losses(model, tokenizer.pad_token_id, examples)
    whole, sizes = model.forward, []

    def small(*arguments: Any, **inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("too many rows")
        return whole(*arguments, **inputs)

    monkeypatch.setattr(model, "forward", small)
    assert row_losses(model, tokenizer.pad_token_id, examples) == pytest.approx(enough, rel=1e-4)
    assert sizes == [7, 3, *[1] * 7]


def test_rows_without_an_answer_count_by_their_loss_alone(tmp_path: Path, held_out: list[Sample]) -> None:
    model, tokenizer = load_base(STARTER, torch.float32).eval(), load_tokenizer(STARTER)
    text = Sample("text", Place("more.txt", 1), text="Some plain text to be continued.")
    mixed = [held_out[0], text, held_out[1]]
    judged = judge(
        model, tokenizer, mixed, encode(tokenizer, mixed, Data()), Evaluation(max_new_tokens=4), lambda: False
    )
    assert [each is None for each in judged.answers] == [False, True, False] and all(judged.tokens)
    measured = {each.name for each in compare(mixed, judged, judged)}
    assert measured == {"exact_match", "token_f1", "rouge_l", "loss", "perplexity"}


def test_tools_stand_in_the_question_as_they_did_in_training(held_out: list[Sample]) -> None:
    from dataclasses import replace

    from trainer.data.templates import Renderer
    from trainer.evaluation.judging import question

    tokenizer = load_tokenizer(STARTER)
    tokenizer.chat_template = "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}" + tokenizer.chat_template
    sample = replace(held_out[0], tools=({"type": "function", "function": {"name": "look_up"}},))
    assert question(Renderer(tokenizer), sample).text.startswith("[look_up]")


def test_a_stopped_evaluation_has_no_answers(held_out: list[Sample]) -> None:
    model, tokenizer = load_base(STARTER, torch.float32).eval(), load_tokenizer(STARTER)
    judged = judge(model, tokenizer, held_out, encode(tokenizer, held_out, Data()), Evaluation(), lambda: True)
    assert judged.answers == [] and judged.exact_match is None
    assert answer(model, tokenizer, ["x"], 4, lambda: True) == []


def test_a_run_writes_its_verdict_and_says_it(tmp_path: Path) -> None:
    skills.write(tmp_path, "ticket", training=16, held_out=8)
    spec = RunSpec().with_changes(
        {
            "model": str(STARTER),
            "data.train": str(tmp_path / "train.jsonl"),
            "data.held_out": str(tmp_path / "held_out.jsonl"),
            "training.max_steps": 2,
            "evaluation.max_new_tokens": 8,
        }
    )
    create(tmp_path / "run", {"id": "run", "kind": "train", "title": "A run"})
    with Operation(tmp_path / "run") as operation:
        train(operation, spec)
    told = next(event for event in read_events(tmp_path / "run") if event.get("side") == "comparison")
    written = json.loads((tmp_path / "run" / "evaluation.json").read_text(encoding="utf-8"))
    assert told["verdict"] == written["verdict"] and told["measures"] == written["measures"]
    assert [measure["name"] for measure in told["measures"]] == [
        "exact_match",
        "token_f1",
        "rouge_l",
        "loss",
        "perplexity",
    ]
    assert {row["place"] for row in written["worst"]} == {f"held_out.jsonl, line {line}" for line in range(1, 9)}


def test_a_large_vocabulary_is_computed_in_small_portions(held_out: list[Sample], monkeypatch: Any) -> None:
    tokenizer = load_tokenizer(STARTER)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=300_000, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    ).eval()
    whole, sizes = model.forward, []
    monkeypatch.setattr(model, "forward", lambda **inputs: sizes.append(inputs["input_ids"].numel()) or whole(**inputs))
    examples = encode(tokenizer, held_out, Data())
    with torch.inference_mode():
        row_losses(model, tokenizer.pad_token_id, examples)
    longest = max(len(example.ids) for example in examples)
    assert max(sizes) * 300_000 <= max(1 << 27, longest * 300_000) and len(sizes) > 1

"""What the tuning has changed: each measure of both sides with its interval, a verdict in words, the worst rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trainer.data.samples import Sample
from trainer.evaluation.intervals import Interval, percentiles, weighted_means, wilson
from trainer.evaluation.judging import Score
from trainer.evaluation.scores import exact_match, rouge_l, token_f1
from trainer.evaluation.words import IN_WORDS, LOWER_IS_BETTER, SHARES, figure

WORST, TEXT = 10, 2000  # rows that are shown, and characters of each text of theirs
FEWEST = 6  # rows that must differ: were it by chance, all of five would go one way in 1 of 16 cases, of six in 1 of 32
OF_ANSWERS: dict[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "token_f1": token_f1,
    "rouge_l": rouge_l,
}


@dataclass(frozen=True)
class Measure:
    """One measure of both sides; `better` is None where these rows could not show that the sides differ."""

    name: str
    base: Interval
    tuned: Interval
    difference: Interval
    better: bool | None


def compare(samples: Sequence[Sample], base: Score, tuned: Score) -> list[Measure]:
    """All measures that both sides have; of answers first."""
    found = []
    asked = [row for row, sample in enumerate(samples) if sample.answer] if base.answers and tuned.answers else []
    for name, score in OF_ANSWERS.items() if asked else ():
        sides = [[score(side.answers[row] or "", samples[row].answer) for row in asked] for side in (base, tuned)]
        found.append(measure(name, np.array(sides), np.ones(len(asked))))
    if sum(base.tokens):
        nats, tokens = np.array([base.nats, tuned.nats]), np.array(base.tokens, dtype=float)
        found += [measure(name, nats, tokens) for name in LOWER_IS_BETTER]
    return found


def measure(name: str, sides: np.ndarray, weights: np.ndarray) -> Measure:
    """From each row's sum on both sides [2, rows], and what the row weighs."""
    changed = int((sides[0] != sides[1]).sum())
    means, resampled = weighted_means(sides, weights)
    with np.errstate(over="ignore", invalid="ignore"):  # the perplexity of a broken model is no number
        if name == "perplexity":
            means, resampled = np.exp(means), np.exp(resampled)
        difference = percentiles(means[1] - means[0], resampled[1] - resampled[0])
        base, tuned = (
            wilson(float(mean), len(weights)) if name in SHARES else percentiles(mean, drawn)
            for mean, drawn in zip(means, resampled, strict=True)
        )
    return Measure(name, base, tuned, difference, better(name, difference, changed))


def better(name: str, difference: Interval, changed: int) -> bool | None:
    """Whether a side's measure is better for sure, of rows of which so many changed."""
    if difference.low is None or difference.high is None or changed < FEWEST:
        return None
    if difference.low <= 0 <= difference.high:
        return None
    return (difference.high < 0) == (name in LOWER_IS_BETTER)


def verdict(measures: Sequence[Measure], rows: int) -> str:
    """One sentence: the first measure that differs, and the first that contradicts it."""
    shown = [measure for measure in measures if measure.better is not None]
    if not shown:
        return f"No difference that {rows} {'row' if rows == 1 else 'rows'} could show."
    first = shown[0]
    text = f"{'Better' if first.better else 'Worse'}: {_change(first)}"
    against = next((measure for measure in shown if measure.better != first.better), None)
    if against:
        text += f", but {'better' if against.better else 'worse'} in {_change(against)}"
    elif first.name == "loss" and any(measure.name in OF_ANSWERS for measure in measures):
        text += f"; the answers show no difference that {rows} rows could show"
    return text + "."


def _change(measure: Measure) -> str:
    low, high = figure(measure.name, measure.tuned.low), figure(measure.name, measure.tuned.high)
    before, after = figure(measure.name, measure.base.value), figure(measure.name, measure.tuned.value)
    return f"{IN_WORDS[measure.name]} {before} → {after} ({low} to {high})"


def worst_rows(samples: Sequence[Sample], base: Score, tuned: Score) -> list[dict[str, Any]]:
    """The rows that the tuned model does worst on: wrong answers, the least like first; without answers, by loss."""
    rows = [_row(sample, base, tuned, index) for index, sample in enumerate(samples)]
    if tuned.answers:
        wrong = [row for row in rows if row["token_f1"] is not None and not row["right"]]
        return sorted(wrong, key=lambda row: (row["token_f1"], -(row["tuned_loss"] or 0.0)))[:WORST]
    return sorted(rows, key=lambda row: -(row["tuned_loss"] or 0.0))[:WORST]


def _row(sample: Sample, base: Score, tuned: Score, index: int) -> dict[str, Any]:
    said = tuned.answers[index] if tuned.answers else None
    turns = sample.messages[:-1] if sample.answer else sample.messages
    return {
        "place": str(sample.place),
        "question": (turns[-1]["content"] if turns else sample.text)[:TEXT],
        "expected": sample.answer[:TEXT],
        "base": _cut(base.answers[index] if base.answers else None),
        "tuned": _cut(said),
        "right": said is not None and bool(exact_match(said, sample.answer)),
        "token_f1": None if said is None else round(token_f1(said, sample.answer), 4),
        "base_loss": loss_of_row(base, index),
        "tuned_loss": loss_of_row(tuned, index),
    }


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:TEXT]


def loss_of_row(side: Score, row: int) -> float | None:
    """Nats a scored token; None where that is no number."""
    loss = side.nats[row] / side.tokens[row] if side.tokens[row] else math.nan
    return round(loss, 5) if math.isfinite(loss) else None


def as_record(measures: Sequence[Measure], rows: int) -> dict[str, Any]:
    """What an event and a file say of it."""
    return {"rows": rows, "measures": [asdict(measure) for measure in measures], "verdict": verdict(measures, rows)}

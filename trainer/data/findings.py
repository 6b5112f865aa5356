"""What is worth knowing about how rows became tokens, each with its share of the rows and a first place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from trainer.data.samples import Place

# In the order in which a person would want to know them.
SENTENCES = {
    "row-unlearned": "nothing is learned from the row, so it is left out",
    "row-too-long": "the row is longer than `data.max_length` and left out",
    "row-cut": "the row is longer than `data.max_length` and cut",
    "answers-lost": "a cut takes at least one answer away, whole or in part",
    "answer-altered": "the template leaves out or changes a part of the answer (as an earlier thought)",
    "calls-ignored": "the template does not show the tools or the calls that the row has",
    "split": "the template rewrites earlier turns, so the row becomes one sample for each answer that it rewrites",
    "opening": "an answer that comes before any question is context only, for the template cannot ask for it",
    "unmarked": "the template's own markers leave an answer out",
    "prompt-differs": "the template asks for answers with a beginning (as an opened thought) that the answers lack",
    "end-added": "the template ends answers with no token, so the tokenizer's end token is put after the last and learned",
    "end-missing": "the last learned token of an answer is none at which the model stops, so it may go on for ever",
    "merged": "the first token of the answer also holds the end of the prompt; let the prompt not end with a space",
    "bos-twice": "the row begins with two start tokens",
    "special-in-text": "the text itself holds one of the model's special tokens, which it will read as such",
    "dated": "the template writes the date of the day into the row",
}


@dataclass
class Findings:
    """How many rows each finding has, with the first place; a row counts once."""

    rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, kinds: Iterable[str], place: Place) -> None:
        """Count one row's findings."""
        for kind in set(kinds):
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self.first.setdefault(kind, str(place))

    def sentences(self) -> list[tuple[str, str]]:
        """(kind, sentence) of each finding, the gravest first."""
        return [(kind, self._sentence(kind)) for kind in SENTENCES if kind in self.counts]

    def lines(self) -> list[str]:
        """One sentence each, the gravest first."""
        return [sentence for _, sentence in self.sentences()]

    def _sentence(self, kind: str) -> str:
        rows = f"{self.counts[kind]:,} of {self.rows:,} rows ({self.counts[kind] / self.rows:.1%}; first {self.first[kind]})"
        return f"{rows}: {SENTENCES[kind]}."

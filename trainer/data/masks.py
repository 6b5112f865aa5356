"""Rows as token ids, with labels on the tokens that are learned."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from trainer.data.answers import Answers, Piece
from trainer.data.findings import Findings
from trainer.data.samples import Place, Sample
from trainer.data.templates import Span, settle_template
from trainer.errors import TrainError
from trainer.models.tokenizer import stop_tokens
from trainer.spec import Data
from trainer.vision.sight import Seen, Sight, moved, require_sight

IGNORED = -100  # the label of a token that is not scored, as cross-entropy's `ignore_index`
TEXTS_AT_ONCE = 512  # the tokenizer's own batch: large enough to be fast, small enough to stay small


@dataclass(frozen=True)
class Example:
    """One row as the model sees it; `ids` and `labels` have the same length.

    `cut` tokens did not fit into `data.max_length`, and with them whole or half `dropped_turns` answers.
    """

    ids: Sequence[int]
    labels: Sequence[int]
    place: Place | None = None
    cut: int = 0
    dropped_turns: int = 0
    seen: Seen | None = None

    @property
    def scored(self) -> int:
        """How many tokens are learned."""
        return sum(label != IGNORED for label in self.labels)


@dataclass
class Whole:
    """One piece as tokens before any cut; `spans` are ranges of learned tokens, `kept` the range that fits."""

    piece: Piece
    encoding: Any
    spans: list[Span]
    kept: Span
    seen: Seen | None = None

    @property
    def length(self) -> int:
        return len(self.encoding.ids)

    def example(self) -> Example:
        """What is left after the cut."""
        ids, (start, end) = self.encoding.ids, self.kept
        labels = [IGNORED] * len(ids)
        for first, last in self.spans:
            labels[first:last] = ids[first:last]
        labels[start : start + 1] = [IGNORED]  # nothing stands before it that it could be predicted from
        dropped = sum(first < start or last > end for first, last in self.spans)
        cut = len(ids) - (end - start)
        return Example(ids[start:end], labels[start:end], self.piece.sample.place, cut, dropped, self.seen)


@dataclass
class Encoded:
    """All rows as tokens, and what is worth knowing about them; `lengths` are those before the cut."""

    examples: Sequence[Example]
    findings: Findings
    template: str
    lengths: array[int] = field(default_factory=lambda: array("i"))
    learned: int = 0
    tokens: int = 0


def encode(tokenizer: Any, samples: Sequence[Sample], data: Data, sight: Sight | None = None) -> list[Example]:
    """Every row rendered, tokenised, and cut at `data.max_length` tokens; rows without a learned token are left out.

    Raises `TrainError` when no token at all would be learned, or when answers cannot be told apart.
    """
    return list(encode_all(tokenizer, samples, data, sight).examples)


def encode_all(tokenizer: Any, samples: Sequence[Sample], data: Data, sight: Sight | None = None) -> Encoded:
    """As `encode`, with what was found on the way."""
    examples: list[Example] = []
    template = settle_template(tokenizer, samples, data.template)
    return encode_into(examples, tokenizer, samples, data, template, sight=sight)


def encode_into(
    target: Any,
    tokenizer: Any,
    samples: Sequence[Sample],
    data: Data,
    template: str,
    tell: Callable[[int], None] = lambda _rows: None,
    sight: Sight | None = None,
) -> Encoded:
    """Append every example to `target`, a list or a file; the tokenizer has the template of the run already.

    `tell` is called after every row with the number of rows so far; what it raises ends the work.
    """
    encoded = Encoded(target, Findings(rows=len(samples)), template)
    for row, (sample, wholes) in enumerate(by_row(tokenizer, samples, data, sight), 1):
        found: set[str] = set()
        for whole in wholes:
            example = whole.example()
            encoded.lengths.append(whole.length)
            found |= findings_of(whole, example, data)
            scored = example.scored
            if scored:
                target.append(example)
                encoded.learned += scored
                encoded.tokens += len(example.ids)
        encoded.findings.add(found, sample.place)
        tell(row)
    if samples and not encoded.learned:
        raise nothing_learned(encoded.findings)
    return encoded


def nothing_learned(findings: Findings) -> TrainError:
    """The refusal of a set of rows without one learned token; names the commonest reason."""
    reasons = [line for kind, line in findings.sentences() if kind != "row-unlearned"]
    return TrainError(
        "nothing-scored",
        " ".join(["Not one token of an answer is left to learn from.", *reasons[:1]]),
        "Raise `data.max_length`, or check that the answers are the assistant's turns.",
    )


def by_row(
    tokenizer: Any, samples: Iterable[Sample], data: Data, sight: Sight | None = None
) -> Iterator[tuple[Sample, list[Whole]]]:
    """Each row with its pieces as tokens, tokenised in batches; `sight` makes room for the pictures of rows."""
    if not tokenizer.is_fast:
        raise TrainError(
            "tokenizer-slow",
            "The model's tokenizer does not tell which characters each token stands for, so answers cannot be told apart.",
            "Use a model with a `tokenizer.json`.",
        )
    answers = Answers(tokenizer, data.train_on)
    stops = stop_tokens(tokenizer)
    rows = iter(samples)
    while chunk := [
        (sample, list(answers.pieces(require_sight(sample, sight)))) for sample in islice(rows, TEXTS_AT_ONCE)
    ]:
        seen = iter([_with_room(piece, sight) for _, pieces in chunk for piece in pieces])
        texts = [piece.text for _, pieces in chunk for piece in pieces]
        encodings = iter(_tokenise(tokenizer, texts))
        for sample, pieces in chunk:
            wholes = [_whole(piece, next(encodings), data, stops, tokenizer.bos_token_id) for piece in pieces]
            for whole in wholes:
                whole.seen = next(seen)
                if whole.seen and whole.length > data.max_length:
                    whole.kept = (0, 0)  # half a picture says nothing
            yield sample, wholes


def _with_room(piece: Piece, sight: Sight | None) -> Seen | None:
    """The piece's pictures, for which its text makes room."""
    if sight is None:
        return None
    piece.text, seen, grown = sight.place(piece.text, piece.sample)
    piece.learned = [(moved(start, grown), moved(end, grown)) for start, end in piece.learned]
    return seen


def _tokenise(tokenizer: Any, texts: list[str]) -> Any:
    """The fast tokenizer's own records, which know characters; special tokens are in the texts already."""
    return tokenizer(
        texts,
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        padding=False,
        truncation=False,
        verbose=False,
    ).encodings


def _whole(piece: Piece, encoding: Any, data: Data, stops: set[int], bos: int | None) -> Whole:
    ids, spans = encoding.ids, []
    for start, end in piece.learned:
        first, last = (_first_token(encoding, position, len(piece.text)) for position in (start, end))
        if last < len(ids) and encoding.token_to_chars(last)[0] < end:
            last += 1  # it holds the answer's last characters
        if first >= last:
            continue
        if encoding.token_to_chars(first)[0] < start:
            piece.found.add("merged")
        spans.append((first, last))
    answers = piece.sample.kind != "text" and data.train_on != "everything"
    if answers and any(ids[last - 1] not in stops for _, last in spans):
        piece.found.add("end-missing")
    if bos is not None and ids[:2] == [bos, bos]:
        piece.found.add("bos-twice")
    return Whole(piece, encoding, spans, _kept(len(ids), data))


def _first_token(encoding: Any, position: int, length: int) -> int:
    """The first token at or after the character; the count of tokens where there is none."""
    for character in range(position, length):
        token = encoding.char_to_token(character)
        if token is not None:
            return int(token)
    return len(encoding.ids)


def _kept(length: int, data: Data) -> Span:
    """The range of tokens that fits."""
    if length <= data.max_length:
        return 0, length
    if data.truncation == "drop":
        return 0, 0
    return (0, data.max_length) if data.truncation == "end" else (length - data.max_length, length)


def findings_of(whole: Whole, example: Example, data: Data) -> set[str]:
    """What is to be said of one piece and what the cut has left of it."""
    found = set(whole.piece.found)
    if example.cut and data.truncation != "drop":
        found.add("row-cut")
        if example.dropped_turns and whole.piece.sample.kind != "text":
            found.add("answers-lost")
    if not example.scored:
        found.add("row-too-long" if data.truncation == "drop" and example.cut else "row-unlearned")
    return found

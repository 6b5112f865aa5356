"""Which characters of a rendered row are to be learned: found by comparing renderings, and verified, never guessed.

An answer is what the template adds to the question when it is given: the text up to and with the answer, less the
text that asks for it. That is checked answer by answer. Where a template renders an answer differently once more
turns follow (it strips earlier thoughts, moves the system prompt, ends the last turn in its own way), a row becomes
several pieces, each ending with an answer exactly as the model will have to give it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.data.samples import Message, Sample
from trainer.data.templates import Renderer, Span, begins_with_bos
from trainer.errors import TrainError
from trainer.models.tokenizer import stop_tokens

LONGEST_TOKEN = 100  # characters of a special token's name


@dataclass
class Piece:
    """One text to learn from; `learned` are spans of its characters, one group a turn."""

    sample: Sample
    text: str
    learned: list[Span]
    found: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Answer:
    """The conversation up to and with one answer; what is learned of it ends at `end`."""

    text: str
    spans: list[Span]

    @property
    def end(self) -> int:
        return self.spans[-1][1]


class Answers:
    """Finds the answers of rows under one tokenizer and one choice of what is learned."""

    def __init__(self, tokenizer: Any, train_on: str) -> None:
        self._renderer = Renderer(tokenizer)
        self._train_on = train_on
        self._bos = tokenizer.bos_token if begins_with_bos(tokenizer) else ""
        self._eos = tokenizer.eos_token or ""
        self._stops = {tokenizer.convert_ids_to_tokens(each) for each in stop_tokens(tokenizer)} - {None}
        special = sorted({*tokenizer.all_special_tokens, *self._stops, *_control_tokens(tokenizer)}, key=len)
        one = "|".join(re.escape(token) for token in reversed(special)) or r"(?!)"
        self._special = re.compile(one)
        self._closed = re.compile(rf"(?:{one})\Z")
        self._tail = re.compile(rf"(?:(?:{one})\s*)+\Z")

    def pieces(self, sample: Sample) -> Iterator[Piece]:
        """The texts that a row is learned from, mostly one. Raises `TrainError` for what cannot be told apart."""
        if sample.kind == "text":
            yield self._plain_text(sample)
        elif self._train_on == "everything":
            text = self._renderer.text(_turns(sample), sample)
            yield Piece(sample, text, [(0, len(text))], self._in_text(sample))
        else:
            yield from self._conversation(sample)

    def _plain_text(self, sample: Sample) -> Piece:
        text = sample.text
        start = "" if text.startswith(self._bos) else self._bos
        text = start + text + ("" if self._eos and text.endswith(self._eos) else self._eos)
        return Piece(sample, text, [(len(start), len(text))])

    def _conversation(self, sample: Sample) -> Iterator[Piece]:
        turns = _turns(sample)
        found = self._in_text(sample)
        answers: dict[int, _Answer] = {}
        for turn in wanted_turns(turns, self._train_on):
            answer = self._answer(sample, turns, turn, found)
            if answer:
                answers[turn] = answer
        if sample.tools and answers and not self._shows_tools(sample, turns):
            found.add("calls-ignored")
        if self._renderer.dated:
            found.add("dated")
        while True:
            piece, covered = self._longest(sample, answers)
            answers = {turn: answer for turn, answer in answers.items() if turn not in covered}
            if answers:
                found.add("split")
            piece.found |= found
            yield piece
            if not answers:
                return

    def _longest(self, sample: Sample, answers: dict[int, _Answer]) -> tuple[Piece, set[int]]:
        """The piece that ends with the last answer, and the earlier ones that look in it as they were given."""
        if not answers:
            return Piece(sample, self._renderer.text(_turns(sample), sample), []), set()
        last = answers[max(answers)]
        covered = {turn for turn, each in answers.items() if last.text.startswith(each.text[: each.end])}
        piece = Piece(sample, last.text, [])
        for turn in sorted(covered):
            *whole, (start, end) = answers[turn].spans
            piece.learned += [*whole, (start, self._with_end(piece, end))]
        return piece, covered

    def _with_end(self, piece: Piece, end: int) -> int:
        """Where learning ends when the token that ends the answer is learned too; puts one there if there is none."""
        closed = self._closed.search(piece.text, max(0, end - LONGEST_TOKEN), end)
        if closed:
            return end
        following = self._special.match(piece.text, end)
        if following and following.group() in self._stops:
            return following.end()
        if end == len(piece.text) and self._eos:
            piece.text += self._eos
            piece.found.add("end-added")
            return len(piece.text)
        return end

    def _answer(self, sample: Sample, turns: Sequence[Message], turn: int, found: set[str]) -> _Answer | None:
        """One answer as the model has to give it, or None where it cannot be asked for."""
        until = turns[: turn + 1]
        if self._renderer.marked(bool(sample.tools)):
            answer = self._by_markers(sample, turns, turn)
            if answer is None:
                found.add("unmarked")
                return None
        else:
            text = self._renderer.text(until, sample)
            start = self._start(sample, turns, turn, text, found)
            if start is None:
                found.add("opening")
                return None
            answer = _Answer(text, [(start, self._end(text, start))])
        said = "".join(answer.text[start:end] for start, end in answer.spans)
        if not _holds(said, turns[turn]["content"]):
            found.add("answer-altered")
        if any(call.get("function", {}).get("name", "") not in said for call in turns[turn].get("tool_calls", ())):
            found.add("calls-ignored")
        return answer

    def _by_markers(self, sample: Sample, turns: Sequence[Message], turn: int) -> _Answer | None:
        text, marks = self._renderer.text_and_marks(turns[: turn + 1], sample)
        earlier = sum(message["role"] == "assistant" for message in turns[:turn])
        if earlier:
            _, before = self._renderer.text_and_marks(turns[:turn], sample)
            earlier = len(before)
        return _Answer(text, marks[earlier:]) if marks[earlier:] else None

    def _start(self, sample: Sample, turns: Sequence[Message], turn: int, text: str, found: set[str]) -> int | None:
        """Where the answer begins in the text that ends with it; None where nothing was asked before it."""
        opening = all(message["role"] == "system" for message in turns[:turn])
        try:
            asked = self._renderer.text(turns[:turn], sample, ask=True)
            if text.startswith(asked):
                return len(asked)
            plain = self._renderer.text(turns[:turn], sample)
        except TrainError:
            if opening:
                return None
            raise
        common = _common_start(asked, text)
        ends = [match.end() for match in self._special.finditer(common)]
        if text.startswith(plain) and ends and ends[-1] > len(plain):
            found.add("prompt-differs")
            return ends[-1]
        if opening:
            return None
        raise TrainError(
            "template-rewrites",
            f"{sample.place}: the chat template changes the turns before an answer when the answer is added, so its "
            "tokens cannot be told apart.",
            "Choose another `data.template`, give the model's template generation markers, or set `data.train_on` to `everything`.",
        )

    def _end(self, text: str, start: int) -> int:
        """Where what the model says ends: after the token that ends its turn, before what the template puts behind."""
        tail = self._tail.search(text, start)
        if tail is None:
            return len(text)
        tokens = list(self._special.finditer(text, tail.start()))
        return next((token.end() for token in tokens if token.group() in self._stops), tokens[-1].end())

    def _shows_tools(self, sample: Sample, turns: Sequence[Message]) -> bool:
        shown = self._renderer.text(turns, sample)
        names = [tool.get("function", tool).get("name", "") for tool in sample.tools]
        return all(name in shown for name in names)

    def _in_text(self, sample: Sample) -> set[str]:
        hit = any(self._special.search(message["content"]) for message in _turns(sample))
        return {"special-in-text"} if hit else set()


def wanted_turns(turns: Sequence[Message], train_on: str) -> list[int]:
    """The positions of the answers that are learned."""
    answers = [position for position, message in enumerate(turns) if message["role"] == "assistant"]
    if train_on == "last":
        return answers[-1:]
    if train_on == "completion":
        asked = max((position for position in range(len(turns)) if turns[position]["role"] == "user"), default=-1)
        later = [position for position in answers if position > asked]
        return later or answers[-1:]
    return answers


def _turns(sample: Sample) -> Sequence[Message]:
    if sample.kind == "completion" and not sample.messages:
        return ({"role": "user", "content": sample.prompt}, {"role": "assistant", "content": sample.completion})
    return sample.messages


def _control_tokens(tokenizer: Any) -> set[str]:
    return {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}


def _holds(said: str, content: str) -> bool:
    """Whether the answer is in what is learned, whitespace aside."""
    return content.strip() in said or "".join(content.split()) in "".join(said.split())


def _common_start(one: str, other: str) -> str:
    differing = (at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
    return one[: next(differing, min(len(one), len(other)))]

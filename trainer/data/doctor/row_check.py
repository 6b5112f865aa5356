"""One row against everything that can be said of it alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainer.data.doctor.tally import Tally
from trainer.data.formats import Format, Forms, to_sample
from trainer.data.problems import Finding, Read, RowError
from trainer.data.samples import Place, Sample
from trainer.data.turns import odd_order

Quick = Callable[[dict[str, Any]], bool]
_ROLES_KEPT = 10_000  # orders of roles remembered; a conversation of hundreds of turns has an order of its own


class RowCheck:
    """Counts what is found in the rows that it is given."""

    def __init__(self, asked: str, columns: str) -> None:
        self.tally = Tally()
        self.forms = Forms(asked, columns)
        self._orders: dict[tuple[str, ...], bool] = {}
        self._unused: set[str] = set()
        # A test of each layout that only ever says yes to rows in which `add` would find nothing.
        self.quick: dict[tuple[str, ...], Quick] = {}
        self.quick_rows: dict[tuple[str, ...], int] = {}

    def add(self, read: Read) -> Sample | None:
        """Count one row; returns it where it can be learned."""
        place, value, findings = read
        self.tally.rows += 1
        error = next((finding for finding in findings if finding.drops), None)
        if error is None:
            try:
                return self._usable(place, value, findings)
            except RowError as wrong:
                error = wrong.at(place)
            except RecursionError:
                error = Finding("json-depth", place, "brackets are nested hundreds deep.")
        self.tally.drop(error)
        return None

    def count_quick(self) -> None:
        """Count the rows that passed a quick test, once they all have."""
        for columns, count in self.quick_rows.items():
            self.tally.rows += count
            self.tally.usable += count
            self.tally.formats[str(self.forms.of(dict.fromkeys(columns)))] += count
        self.quick_rows.clear()

    def _usable(self, place: Place, value: Any, findings: list[Finding]) -> Sample:
        form = self.forms.of(value)
        sample, odd = to_sample(form, value, place)
        self.tally.usable += 1
        self.tally.pictures += len(sample.pictures)
        self._note_format(form, place)
        if sample.label:
            self.tally.classify(sample.label)
        for finding in findings:
            if finding.kind != "line-long" or not any(each.content for each in sample.pictures):
                self.tally.find(finding)
        for kind, detail, field in odd:
            self.tally.find(Finding(kind, place, detail, field))
        for column in form.unused(value):
            if column not in self._unused and len(self._unused) < _ROLES_KEPT:
                self._unused.add(column)
                self.tally.find(Finding("columns-extra", place, f"the column `{column}` is not used.", column))
        if tuple(value) not in self.quick and len(self.quick) < _ROLES_KEPT:
            test = self._quick_test(form)
            if (test and not form.unused(value)) or (test and set(form.unused(value)) <= self._unused):
                self.quick[tuple(value)] = test
                self.quick_rows[tuple(value)] = 0
        return sample

    def _note_format(self, form: Format, place: Place) -> None:
        name = str(form)
        if self.tally.formats and name not in self.tally.formats:
            first = next(iter(self.tally.formats))
            self.tally.find(Finding("format-mixed", place, f"this row is {name}, the first was {first}."))
        self.tally.formats[name] += 1

    def _quick_test(self, form: Format) -> Quick | None:
        if "images" in form.parts:
            return None
        if form.name in ("messages", "sharegpt") and set(form.parts) & {"system", "tools"} == set():
            return self._quick_turns(form.parts["messages" if form.name == "messages" else "conversations"])
        if form.name == "text":
            return _quick_texts((), form.parts["text"])
        pair = {"prompt-completion": ("prompt", "completion"), "question-answer": ("question", "answer")}.get(form.name)
        if form.name == "alpaca" and "history" not in form.parts:
            texts = tuple(form.parts[part] for part in ("instruction", "input", "system") if part in form.parts)
            return _quick_texts(texts, form.parts["output"])
        if pair and set(form.parts) == set(pair):
            return _quick_texts((form.parts[pair[0]],), form.parts[pair[1]])
        return None

    def _quick_turns(self, column: str) -> Quick:
        orders, remember = self._orders, self._remember

        def test(row: dict[str, Any]) -> bool:
            roles = []
            for turn in row[column]:
                content = turn["content"]
                if type(content) is not str or not content or content.isspace() or len(turn) != 2:
                    return False
                roles.append(turn["role"])
            order = tuple(roles)
            return orders[order] if order in orders else remember(order)

        return test

    def _remember(self, order: tuple[Any, ...]) -> bool:
        """Whether nothing is odd about this order of roles."""
        known = all(role in ("system", "user", "assistant", "tool") for role in order)
        fine = known and "assistant" in order and not odd_order(order)
        if len(self._orders) < _ROLES_KEPT:
            self._orders[order] = fine
        return fine


def _quick_texts(context: tuple[str, ...], target: str) -> Quick:
    def test(row: dict[str, Any]) -> bool:
        text = row[target]
        if type(text) is not str or not text or text.isspace():
            return False
        return all(type(row[column]) is str for column in context)

    return test

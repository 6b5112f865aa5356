"""How a terminal shows what happens: lines for people, or one JSON object a line for programs."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any, NoReturn

import typer

from app.api.schema import Problem
from app.api.schema_evaluation import ConfusedPair, EvaluationView, IntervalView
from app.operations import Operations, follow_events
from app.views import Followed
from trainer.evaluation.words import IN_WORDS, figure
from trainer.operation import Event, ask

CONFUSED = 3  # pairs of classes that are shown


def say_json(value: dict[str, Any]) -> None:
    """One JSON object on one line of standard output."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def fail(problem: Problem, *, as_json: bool, status: int = 1) -> NoReturn:
    """Say what went wrong and what to do, then leave with an exit status."""
    if as_json:
        say_json({"type": "failed", **problem.model_dump(exclude={"action"})})
    else:
        print(f"\nerror: {problem.message}\n  {problem.remedy}  [{problem.code}]", file=sys.stderr, flush=True)
    raise typer.Exit(status)


def size(count: float | None) -> str:
    """A number of bytes in words, decimal units as disks use them."""
    if count is None:
        return "?"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def duration(seconds: float) -> str:
    """Seconds in words."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


class Display:
    """Shows an operation's events as they come; on a terminal the newest figure is rewritten in place."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._live = sys.stdout.isatty() and not as_json
        self._states: dict[str, str] = {}
        self._said = ""

    def watch(self, operations: Operations, followed: Followed, after: int = 0) -> Event:
        """Follow an operation to its end and return its last event; Ctrl-C asks it to stop and waits for that.

        Events up to the number `after` are not shown again.
        """
        last: Event = {}
        interrupted = False
        events = follow_events(followed.folder)
        while True:
            try:
                for event in events:
                    last = event
                    if event["seq"] > after:
                        self.show(event)
                break
            except KeyboardInterrupt:
                if interrupted:
                    self.line("It goes on stopping by itself.")
                    raise
                interrupted = True
                ask(followed.folder, "stop")
                self.line("Stopping; press Ctrl-C again to leave at once.")
                events = (event for event in follow_events(followed.folder) if event["seq"] > last.get("seq", 0))
        view = operations.get(followed.id).view()
        if view.problem:
            self._rewrite("")
            if self._as_json and last.get("type") == "failed":
                raise typer.Exit(1)  # the event itself has said it already
            fail(view.problem, as_json=self._as_json)
        return last

    def line(self, text: str) -> None:
        """A line for people; programs are not told."""
        if not self._as_json:
            self._rewrite("")
            print(text, flush=True)

    def show(self, event: Event) -> None:
        """One event of any operation."""
        if self._as_json:
            say_json(event)
            return
        match event["type"]:
            case "phase" if event["phase"] != "install" and event["text"] != self._said:
                self._said = event["text"]
                self.line(f"  {self._said}")
            case "progress":
                self._progress(event)
            case "step":
                self._training_step(event)
            case "eval" | "sample":
                self._evaluation(event)
            case "warning":
                self.line(f"  warning: {event['message']}")

    def _progress(self, event: Event) -> None:
        if "step" in event:
            self._step(event["step"])
        elif "chosen" in event:
            for reason in event["chosen"].values():
                self.line(f"    {reason}")
        elif "checked" in event:
            self.line(f"    {event['text']}")
        elif "trained_parameters" in event:
            share = event["trained_parameters"] / event["parameters"]
            self.line(
                f"    training {event['trained_parameters']:,} of {event['parameters']:,} parameters ({share:.1%})"
            )
            frozen = [row["part"] for row in event.get("coverage", []) if not row["trained"]]
            if frozen:
                self.line(f"    frozen: {', '.join(frozen)}")

    def _step(self, step: dict[str, Any]) -> None:
        changed = self._states.get(step["id"]) != step["state"]
        self._states[step["id"]] = step["state"]
        figures = _downloaded(step)
        if step["state"] == "running":
            self._rewrite(f"  ... {step['title']}  {figures}  {duration(step['seconds'])}")
        elif changed and step["state"] == "done":
            self.line(f"  ok  {step['title']}  {figures}  {duration(step['seconds'])}")
        elif changed and step["state"] in ("failed", "skipped"):
            self.line(f"  {'--' if step['state'] == 'skipped' else '!!'}  {step['title']}: {step['reason']}")

    def _evaluation(self, event: Event) -> None:
        if event["type"] == "sample":
            self.line(f"    {event['prompt'][:80]}\n      -> {event['text'][:200]}")
        elif event["side"] == "comparison":
            self.line("\n".join(["", *evaluation_lines(EvaluationView.model_validate(event))]))
        elif event["side"] == "training":
            self.line(f"    held out: loss {event['loss']:.4f}{', the best so far' if event['best'] else ''}")
        elif event.get("exact_match") is not None:
            right = "accuracy" if event.get("unit") == "pictures" else "exact match"
            self.line(f"    {event['side']}: loss {event['loss']:.3f}, {right} {event['exact_match']:.0%}")

    def _training_step(self, event: Event) -> None:
        text = (
            f"    step {event['step']}/{event['steps']}  loss {event['loss']:.4f}  "
            f"{event['tokens_per_second']:,.0f} {event.get('unit', 'tokens')}/s  {duration(event['eta_seconds'])} left"
        )
        if self._live:
            self._rewrite(text)
        elif event["step"] in (1, event["steps"]) or event["step"] % max(1, event["steps"] // 10) == 0:
            print(text, flush=True)

    def _rewrite(self, text: str) -> None:
        if self._live:
            print("\r\x1b[K" + text[: shutil.get_terminal_size().columns - 1], end="", flush=True)


def evaluation_lines(evaluation: EvaluationView) -> list[str]:
    """Base and tuned as a table with the ranges of 95 %, and the verdict below it."""
    head = f"  {'':12}{'base':>25}{'tuned':>30}{'difference':>30}"
    rows = [
        f"  {IN_WORDS[each.name]:12}{_ranged(each.name, each.base):>25}{_ranged(each.name, each.tuned):>30}"
        f"{_ranged(each.name, each.difference, '+'):>30}"
        for each in evaluation.measures
    ]
    return [head, *rows, "", f"  {evaluation.verdict}", *map(_confused, evaluation.confused[:CONFUSED])]


def _confused(pair: ConfusedPair) -> str:
    told = f"  {pair.label} taken for {pair.said}: {pair.count} of {pair.of}"
    return f"{told}, as {', '.join(pair.pictures)}" if pair.pictures else told


def _ranged(name: str, interval: IntervalView, sign: str = "") -> str:
    value, low, high = (figure(name, each, sign) for each in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})"


def _downloaded(step: dict[str, Any]) -> str:
    """The bytes of an installation step, with their pace and what is left of the time while they come."""
    done, total = step["bytes_done"], step["bytes_total"]
    if not done and not total:
        return "no download" if total == 0 else ""
    figures = f"{size(done)} of {size(total)}" if total else size(done)
    if step.get("bytes_per_second"):
        figures += f"  {size(step['bytes_per_second'])}/s"
    if step.get("seconds_left"):
        figures += f"  {duration(step['seconds_left'])} left"
    return figures

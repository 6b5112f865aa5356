"""`fettle data …`: what is wrong with a data set, a mended copy, and a split, all without an environment; and a preview."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from app.commands_env import JsonFlag
from app.commands_preview import preview
from app.data_mend import name_beside
from app.errors import AppError
from app.models import with_data_resolved
from app.operations import Operations
from app.paths import open_home
from app.terminal import duration, say_json
from trainer.data.doctor.check import Listener, Report, check, finding_json
from trainer.data.doctor.repair import LEFT_OUT, write_mended
from trainer.data.formats import FORMAT_NAMES
from trainer.data.problems import KINDS, Finding
from trainer.data.reading import held_out_source, read_rows
from trainer.data.sources import Source, find
from trainer.data.split import write_sides
from trainer.spec.data import Data

cli = typer.Typer(help="Data sets: check, mend, split, preview.", no_args_is_help=True)
cli.command("preview")(preview)
SHOWN = 3  # places of each kind without --all
MARKS = {"error": "!!", "warning": " !", "note": " -"}
FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="A data file, a folder with `train`, or hub:owner/name.")
]
FormatOption = Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMAT_NAMES)}.")]
ColumnsOption = Annotated[
    str, typer.Option("--columns", help="Names of your columns, as in prompt=question,completion=answer.")
]


@cli.command("check")
def check_data(
    file: FileArgument,
    held_out: Annotated[str | None, typer.Option("--held-out", help="Also look for its rows among the others.")] = None,
    fix: Annotated[Path | None, typer.Option("--fix", help="Write a mended copy here, as JSON lines.")] = None,
    format: FormatOption = "auto",
    columns: ColumnsOption = "",
    every: Annotated[bool, typer.Option("--all", help="Show up to twenty places of each kind.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Without the slower checks.")] = False,
    json: JsonFlag = False,
) -> None:
    """Say everything that is wrong with a data set, with file, line and reason; exit status 1 when rows are unusable."""
    data = _data(file, format, columns, held_out)
    source, aside = find(data.train), held_out_source(data)
    python = _interpreter(source, aside)
    started = time.monotonic()
    screen = _Screen(as_json=json)
    report = check(source, data, python, held_out=aside, slow=not quick, listener=screen.listener, opener=_opener)
    screen.clear()
    if json:
        say_json({"type": "done", **report.to_json(), "seconds": round(time.monotonic() - started, 2)})
    else:
        _show(report, SHOWN if not every else 20, time.monotonic() - started)
    if fix:
        rows, done = write_mended(source, data, _opener() if report.tally.pictures else python, fix)
        _say_mended(fix, rows, done, as_json=json)
    elif report.tally.usable and not report.sound and not json:
        out = name_beside(source.path) if source.path and report.tally.pictures else "mended.jsonl"
        print(f"\nNext: fettle data check {file} --fix {out}")
    raise typer.Exit(0 if report.sound else 1)


@cli.command()
def split(
    file: FileArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder for train.jsonl and valid.jsonl.")],
    share: Annotated[float, typer.Option(help="The part that is held out.", min=0.001, max=0.5)] = 0.1,
    by: Annotated[str, typer.Option(help="A column whose equal values stay on one side.")] = "",
    seed: Annotated[int, typer.Option(help="Another number holds out other rows.", min=0)] = 0,
    format: FormatOption = "auto",
    columns: ColumnsOption = "",
    json: JsonFlag = False,
) -> None:
    """Part a data set into training and held-out rows; equal rows stay on one side."""
    data = _data(file, format, columns).model_copy(update={"split_by": by, "split_seed": seed, "held_out_share": share})
    source = find(data.train)
    rows = read_rows(source, data, _interpreter(source, None))
    train, held = write_sides([(row, key) for row, key in rows], share, seed, output)
    if json:
        say_json({"folder": str(output), "train": train, "held_out": held})
    else:
        print(f"{train:,} rows in {output / 'train.jsonl'}, {held:,} in {output / 'valid.jsonl'}.")
        print(f"Next: fettle train --model MODEL --data {output}")


def _data(file: str, format: str, columns: str, held_out: str | None = None) -> Data:
    if format not in FORMAT_NAMES:
        raise AppError(
            "setting-invalid", f"There is no format '{format}'.", f"Choose one of {', '.join(FORMAT_NAMES)}."
        )
    return with_data_resolved(Data(train=file, held_out=held_out, format=format, columns=columns))


def _interpreter(*sources: Source | None) -> Path | None:
    """The environment's interpreter where a source needs it, and there is one."""
    if any(each and (each.path is None or ".parquet" in each.path.suffixes) for each in sources):
        return Operations(open_home()).interpreter()
    return None


def _opener() -> Path | None:
    """What opens pictures; a home that is out of order does not keep the rest from being checked."""
    with suppress(AppError):
        return Operations(open_home()).interpreter()
    return None


class _Screen:
    """Shows how far a check has come: one line that is rewritten, or JSON lines for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._live = sys.stderr.isatty() and not as_json
        self._said = 0.0
        self.listener = Listener(self._progress, self._finding)

    def _progress(self, phase: str, share: float | None) -> None:
        if time.monotonic() - self._said < 0.2 and share != 1.0:
            return
        self._said = time.monotonic()
        if self._json:
            say_json({"type": "progress", "phase": phase, "share": share and round(share, 3)})
        elif self._live:
            print(f"\r\x1b[K  {phase}{'' if share is None else f' {share:.0%}'}", end="", file=sys.stderr, flush=True)

    def _finding(self, finding: Finding) -> None:
        if self._json:
            say_json({"type": "finding", **finding_json(finding)})

    def clear(self) -> None:
        """Remove the line."""
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _show(report: Report, most: int, seconds: float) -> None:
    """The report for people: what it is, how much of it is usable, and each kind of problem with its places."""
    tally = report.tally
    forms = (
        "; ".join(f"{name}: {count:,}" for name, count in tally.formats.most_common(3))
        if len(tally.formats) > 1
        else ""
    )
    form = forms or next(iter(tally.formats), "no known format")
    print(f"{report.name}: {report.shape}, {form}")
    if not tally.rows:
        print("There is nothing in it.")
        return
    rows = "1 row" if tally.rows == 1 else f"{tally.rows:,} rows"
    print(f"{rows} read, {tally.usable:,} can be learned from ({duration(seconds)}).")
    if tally.dropped:
        reasons = ", ".join(f"{count:,} with {KINDS[kind].title}" for kind, count in tally.dropped.most_common())
        print(f"{sum(tally.dropped.values()):,} cannot: {reasons}.")
    weights = list(MARKS)
    for kind in sorted(tally.counts, key=lambda kind: (weights.index(KINDS[kind].weight), -tally.counts[kind])):
        _show_kind(kind, [finding for finding in tally.findings if finding.kind == kind], tally.counts[kind], most)
    for what in report.partial:
        print(f"\n{what}")
    if not tally.counts:
        print("Nothing is wrong with it.")


def _show_kind(kind: str, findings: list[Finding], count: int, most: int) -> None:
    about = KINDS[kind]
    print(f"\n{MARKS[about.weight]} {about.meaning}  [{kind}]")
    for finding in findings[:most]:
        print(f"     {finding}")
    if count > most:
        print(f"     and {count - min(most, len(findings)):,} more")
    if about.fix:
        print(f"     --fix: {about.fix}")


def _say_mended(out: Path, rows: int, done: Counter[str], *, as_json: bool) -> None:
    if as_json:
        say_json({"type": "fixed", "file": str(out), "rows": rows, "done": dict(done)})
        return
    print(f"\n{rows:,} rows written to {out}; the original is unchanged.")
    for what, count in done.most_common():
        kind = what.removeprefix(LEFT_OUT)
        print(f"     {count:,} {'left out' if kind != what else 'mended'}: {KINDS[kind].title}")

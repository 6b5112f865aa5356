"""`fettle runs evaluate` and `fettle runs export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.after_run import copy_adapter, start_evaluation, start_merge
from app.api.schema_after import JudgeRequest, MergeRequest, Precision
from app.commands_env import JsonFlag
from app.commands_runs import RunArgument
from app.operations import Operations
from app.paths import open_home
from app.terminal import Display, say_json


def evaluate(
    run: RunArgument,
    data: Annotated[str | None, typer.Option(help="Rows to judge on; none: the run's own held-out rows.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="At most so many; none: as the run's settings say.")] = None,
    json: JsonFlag = False,
) -> None:
    """Judge a run's adapter against its base once more."""
    operations, display = Operations(open_home()), Display(as_json=json)
    started = start_evaluation(operations, run, JudgeRequest(data=data, rows=rows))
    last = display.watch(operations, started)
    if last["type"] == "done":
        display.line(f"\nThe rows it does worst on: {started.folder / 'evaluation.json'}")
    else:
        display.line("Stopped.")


def export(
    run: RunArgument,
    output: Annotated[Path, typer.Option(help="A new or empty folder.")],
    merged: Annotated[bool, typer.Option("--merged", help="The whole model with the adapter in its weights.")] = False,
    adapter: Annotated[bool, typer.Option("--adapter", help="A copy of the adapter's folder.")] = False,
    dtype: Annotated[Precision | None, typer.Option(help="Of merged weights; none: the base's own.")] = None,
    json: JsonFlag = False,
) -> None:
    """Take a run's adapter elsewhere: as it is, or merged into its base."""
    if merged == adapter or (adapter and dtype):
        raise typer.BadParameter("Name one of --merged (with --dtype, if you like) and --adapter.")
    operations, display = Operations(open_home()), Display(as_json=json)
    if adapter:
        made = copy_adapter(operations, run, output)
        if json:
            say_json({"type": "done", "output": str(made)})
    else:
        started = start_merge(operations, run, MergeRequest(output=str(output), precision=dtype))
        made = display.watch(operations, started)["output"]
    display.line(f"In {made}." if made else "Stopped; nothing was kept.")

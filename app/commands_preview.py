"""`fettle data preview`: what the model will learn of a data set, token by token, before it is trained."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import typer

from app.api.schema_data import PreviewLine, PreviewRequest
from app.commands_env import JsonFlag, pairs
from app.commands_runs import read_spec
from app.data_preview import preview_line, preview_request
from app.operations import Operations
from app.paths import open_home
from app.preview_screen import Painter, in_colour, summary
from app.terminal import fail, say_json
from app.worker import Worker
from env_manager.generations import Generation


def preview(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What would be trained on, as in `fettle train --data`.")],
    model: Annotated[str, typer.Option(help="A model folder, or `starter`.")],
    row: Annotated[int, typer.Option(min=1, help="The first row to show.")] = 1,
    rows: Annotated[int, typer.Option(min=1, max=20, help="How many to show.")] = 3,
    ids: Annotated[bool, typer.Option("--ids", help="One token a line, with its number.")] = False,
    set: Annotated[list[str], typer.Option("--set", help="Any setting, as in data.max_length=256.")] = [],  # noqa: B006 - typer wants a list
    json: JsonFlag = False,
) -> None:
    """Show rows as the model will see them, what is learned of each, and what all rows come to."""
    spec = read_spec(None, model, file, None, pairs(set), None)
    request = PreviewRequest(model=spec.model, data=spec.data, first=row, rows=rows)
    operations = Operations(open_home())
    generation, asked = preview_request(operations, request)
    asyncio.run(_preview(Worker(operations), generation, asked, ids=ids, as_json=json))


async def _preview(worker: Worker, generation: Generation, asked: dict[str, Any], *, ids: bool, as_json: bool) -> None:
    painter = Painter(colour=in_colour())
    try:
        async for raw in worker.ask(generation, asked):
            line = preview_line(raw)
            if line.problem:
                _progress("")
                fail(line.problem, as_json=as_json)
            if as_json:
                say_json(line.model_dump(mode="json", exclude_defaults=True))
            else:
                _show(line, painter, asked["first"], ids=ids)
    finally:
        await worker.close()


def _show(line: PreviewLine, painter: Painter, first: int, *, ids: bool) -> None:
    if line.type == "progress":
        _progress(f"  {line.text}{'' if line.share is None else f' {line.share:.0%}'}")
        return
    _progress("")
    if line.type == "template":
        print(line.text)
    elif line.row:
        if line.row.number == first:
            print(painter.legend())
        print("", *painter.row(line.row, ids=ids), sep="\n")
    elif line.statistics:
        print("", *summary(line.statistics), sep="\n", flush=True)


def _progress(text: str) -> None:
    """One line that is rewritten, for people who look on."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

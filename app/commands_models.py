"""`fettle model …`: what can be done with a model's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands_env import JsonFlag
from app.operations import Operations
from app.paths import open_home
from app.processes import managed_environment
from app.terminal import say_json
from trainer.models.converting import convert

cli = typer.Typer(help="Models: convert pickled weights.", no_args_is_help=True)


@cli.command("convert")
def convert_model(
    folder: Annotated[Path, typer.Argument(help="A model folder with `pytorch_model.bin`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder for the same model as safetensors.")],
    json: JsonFlag = False,
) -> None:
    """Copy a model with safetensors in place of pickles, in a process of its own that lets the pickles call nothing."""
    generation = Operations(open_home()).active_generation()
    output = output.expanduser().absolute()
    convert(generation.python, folder.expanduser().absolute(), output, managed_environment(generation))
    if json:
        say_json({"folder": str(output)})
    else:
        print(f"Converted to {output}. Next: fettle train --model {output} --data ROWS")


@cli.callback()
def _models() -> None:
    """Keeps `convert` a command of its own while it is the only one."""

"""`fettle env …` across machines: export, import, adopt, wheelhouse."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from app.errors import AppError
from app.operations import Operations
from app.paths import open_home
from app.terminal import Display, duration, say_json
from app.views import Followed
from env_manager.errors import from_os
from env_manager.generations import Generation
from env_manager.hardware import detect
from env_manager.planning.catalog_file import load_catalog
from env_manager.sharing import wheelhouse as wheels
from env_manager.sharing.adopt import adoption, look
from env_manager.sharing.exchange import FORMATS, export, read_recipe
from env_manager.sharing.imported import plan_for

JsonFlag = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
AllowLargeFlag = Annotated[bool, typer.Option("--allow-large", help="Accept a multi-gigabyte build of torch.")]


def _chosen(operations: Operations, generation: str | None) -> Generation:
    return operations.store.get(generation) if generation else operations.installed_generation()


def export_to(
    generation: Annotated[str | None, typer.Argument(help="Which one; without it, the active one.")] = None,
    format: Annotated[str, typer.Option(help="json, requirements or pylock.")] = "json",
    output: Annotated[Path | None, typer.Option(help="The file to write; without it, standard output.")] = None,
) -> None:
    """Write a generation as a file from which it can be built on another machine of the same kind."""
    chosen = next((each for each in FORMATS if each == format), None)
    if chosen is None:
        raise AppError("setting-invalid", f"'{format}' is no form of export.", f"Choose one of {', '.join(FORMATS)}.")
    text = export(_chosen(Operations(open_home()), generation), chosen)
    if output is None:
        print(text, end="")
        return
    try:
        output.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise from_os(error, f"write {output}") from error


def import_from(
    file: Annotated[Path, typer.Argument(help="An exported file, a requirements or pylock file, or a wheelhouse.")],
    json: JsonFlag = False,
) -> None:
    """Build the generation that a file describes, prove it, and switch to it."""
    plan_for(read_recipe(file), detect(), load_catalog())  # refuses what cannot be built here before anything starts
    operations = Operations(open_home())
    watch_install(operations, {"import_from": str(file.absolute()), "title": f"Import {file.name}"}, as_json=json)


def adopt(
    python: Annotated[Path, typer.Argument(help="The Python of an environment, or the environment's folder.")],
    preview: Annotated[bool, typer.Option("--preview", help="Only say which versions would be taken.")] = False,
    allow_large: AllowLargeFlag = False,
    json: JsonFlag = False,
) -> None:
    """Build a generation with the versions of an environment that Fettle did not make; that one stays as it is."""
    taken = adoption(*look(python), load_catalog())
    if preview and json:
        say_json(taken.as_json())
        return
    if not json:
        for name, version in taken.pinned.items():
            print(f"{name} {version}")
        for name, reason in taken.refused.items():
            print(f"not {name}: {reason}")
        print(f"and, where they are needed, its versions of {len(taken.preferred)} other packages.")
    if preview:
        return
    asked = {
        "overrides": taken.pinned,
        "preferred": taken.preferred,
        "allow_large": allow_large,
        "title": "Adopt an environment",
    }
    watch_install(Operations(open_home()), asked, as_json=json)


def wheelhouse(
    folder: Annotated[Path, typer.Argument(help="Where the wheels go; `fettle env import` takes this folder.")],
    generation: Annotated[str | None, typer.Option(help="Which one; without it, the active one.")] = None,
    json: JsonFlag = False,
) -> None:
    """Put every wheel of a generation into a folder, so that it can be installed where there is no network."""
    operations = Operations(open_home())
    chosen = _chosen(operations, generation)
    tell = (lambda line: None) if json else (lambda line: print(f"  {line}", flush=True))
    filled = wheels.fill(operations.store, chosen, folder.absolute(), tell=tell)
    if json:
        say_json({"folder": str(folder.absolute()), "generation": chosen.id, "wheels": len(filled)})
    else:
        print(f"{len(filled)} wheels of {chosen.id} are in {folder}. There: fettle env import {folder}")


def watch_install(operations: Operations, asked: Mapping[str, object], *, as_json: bool) -> None:
    """Start an installation of what was asked for and follow it to its end."""
    follow_install(operations, operations.start_install_of(asked), as_json=as_json)


def follow_install(operations: Operations, begun: Followed, *, as_json: bool) -> None:
    """Follow an installation to its end."""
    started = time.monotonic()
    display = Display(as_json=as_json)
    last = display.watch(operations, begun)
    if last.get("type") == "stopped":
        display.line("Cancelled. The active environment is unchanged.")
        raise typer.Exit(130)
    display.line(f"Environment {last['generation']} is active ({duration(time.monotonic() - started)}).")


def add_to(cli: typer.Typer) -> None:
    """Register these commands."""
    cli.command("export")(export_to)
    cli.command("import")(import_from)
    cli.command("adopt")(adopt)
    cli.command("wheelhouse")(wheelhouse)

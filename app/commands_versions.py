"""`fettle env update` and `fettle env lock`: newer versions, and locks for other machines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from app.commands_exchange import follow_install
from app.operations import Operations
from app.paths import open_home
from app.terminal import say_json
from app.updating import start_update
from env_manager.errors import from_os
from env_manager.hardware import detect
from env_manager.planning.catalog_file import load_catalog
from env_manager.sharing.cross_lock import cross_lock
from env_manager.sharing.update import Update, preview_update, require_change

JsonFlag = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


def update(
    preview: Annotated[bool, typer.Option("--preview", help="Only say what would change, and who caps whom.")] = False,
    json: JsonFlag = False,
) -> None:
    """Build a generation with the newest versions that fit together; the active one stays to roll back to."""
    operations = Operations(open_home())
    tell = (lambda line: None) if json else (lambda line: print(f"  {line}", file=sys.stderr, flush=True))
    found = preview_update(operations.store, detect(operations.home.root), load_catalog(), tell=tell)
    if json and preview:
        say_json(found.as_json())
        return
    if not json:
        _print(found)
    if preview:
        return
    require_change(found)
    follow_install(operations, start_update(operations, found.pinned, found.versions), as_json=json)


def _print(found: Update) -> None:
    print(f"From {found.before}:")
    for name, version in found.added.items():
        print(f"+ {name} {version}")
    for name, version in found.removed.items():
        print(f"- {name} {version}")
    for each in found.changed:
        print(f"~ {each.name} {each.before} -> {each.after}")
    if not (found.added or found.removed or found.changed):
        print("Nothing would change.")
    for cap in found.capped:
        why = f"capped by {' and '.join(cap.by)}" if cap.by else cap.reason
        print(f"! {cap.name} stays at {cap.version}, the newest is {cap.newest}: {why}")


def lock(
    platform: Annotated[str, typer.Option(help="linux, windows or macos.")],
    accelerator: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    python: Annotated[str, typer.Option(help="3.11 or 3.12.")] = "3.11",
    allow_large: Annotated[bool, typer.Option("--allow-large", help="Accept a multi-gigabyte build of torch.")] = False,
    output: Annotated[Path | None, typer.Option(help="The file to write; without it, standard output.")] = None,
    json: JsonFlag = False,
) -> None:
    """Resolve the stack for a machine that is not here, wheels only, every file with its hash."""
    store = Operations(open_home()).store
    found = cross_lock(store, platform, accelerator, python, load_catalog(), allow_large=allow_large)
    if json:
        left_out = {each.package: each.reason for each in found.plan.left_out}
        say_json({"made_for": found.origin.__dict__, "packages": found.lock.versions, "left_out": left_out})
    if output is not None:
        try:
            output.write_text(found.text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise from_os(error, f"write {output}") from error
    elif not json:
        print(found.text, end="")


def add_to(cli: typer.Typer) -> None:
    """Register these commands."""
    cli.command("update")(update)
    cli.command("lock")(lock)

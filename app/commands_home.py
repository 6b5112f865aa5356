"""`fettle home` and `fettle uninstall`: where the gigabytes are, moving them, removing them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from app import disk
from app import home as homes
from app.errors import AppError
from app.operations import Operations
from app.outside import untouched
from app.paths import open_home
from app.terminal import say_json, size

cli = typer.Typer(help="The folder that holds environments, cache and runs.", invoke_without_command=True)
JsonFlag = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


@cli.callback()
def show(context: typer.Context, json: JsonFlag = False) -> None:
    """The folder that holds environments, cache and runs, and what each part takes on the disk."""
    if context.invoked_subcommand is not None:
        return
    home = open_home()
    found = homes.parts(home)
    everything = sum(part.bytes for part in found)
    if json:
        say_json({"home": str(home.root), "bytes": everything, "parts": [part.as_json() for part in found]})
        return
    print(f"{home.root}  {size(everything)}")
    for part in found:
        print(f"  {part.name:<10} {size(part.bytes):>9}  {part.title}")


@cli.command()
def move(folder: Annotated[Path, typer.Argument(help="A new or empty folder.")]) -> None:
    """Move everything to another folder or disk, and use that from now on."""
    target = homes.move(Operations(open_home()), folder, lambda line: print(f"  {line}", file=sys.stderr, flush=True))
    print(f"Fettle's folder is {target} now.")


@cli.command("clear-cache")
def clear_cache(
    preview: Annotated[bool, typer.Option("--preview", help="Only say what would come free.")] = False,
) -> None:
    """Delete cached packages that no environment uses, and rows kept as tokens; what is needed is fetched or made again."""
    operations = Operations(open_home())
    told = disk.spare_cache(operations) if preview else disk.clear_cache(operations)
    print(
        f"{size(told.packages)} of packages and {size(told.tokens)} of tokens {'would be' if preview else 'are'} free."
    )


def uninstall(
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Leave the runs and their adapters.")] = False,
    list_only: Annotated[bool, typer.Option("--list", help="Only list what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete environments, cache, interpreters and, unless kept, runs; lists them first and asks."""
    operations = Operations(open_home())
    taken = {part.name: part.bytes for part in homes.parts(operations.home)}
    print("This deletes:" if not list_only else "This would be deleted:")
    for path in homes.to_remove(operations.home, keep_runs=keep_runs):
        print(f"  {path}" + (f"  {size(taken[path.name])}" if path.name in taken else ""))
    for line in untouched(operations):
        print(f"Not touched: {line}")
    if list_only:
        return
    if not yes:
        _confirm()
    left = homes.uninstall(operations, keep_runs=keep_runs)
    print("Deleted." + ("".join(f"\n  left: {path}" for path in left)))


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise AppError(
            "not-confirmed", "Nothing was deleted: there is nobody to ask.", "Add --yes to delete all of it."
        )
    if not typer.confirm("Delete all of this?"):
        raise typer.Exit(1)
